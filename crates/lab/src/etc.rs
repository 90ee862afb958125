//! Files under /etc that processes of the lab find in place of the machine's.

use std::io;
use std::path::Path;

use daymark_sys::mount::Bind;

/// Names that every host has.
pub(crate) const LOCAL_HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
     fe00::0\tip6-localnet\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// Writes the files (name and text) into `folder` and binds each over the one of that name in /etc.
///
/// Beside them: an nsswitch.conf that asks files and DNS alone, and nothing where the name service cache listens;
/// others (nss-resolve, nscd) would ask the machine around the lab.
pub(crate) fn binds(folder: &Path, files: &[(&str, String)]) -> io::Result<Vec<Bind>> {
    let mut binds = Vec::new();
    for (name, text) in files {
        let source = folder.join(name);
        std::fs::write(&source, text)?;
        binds.push(Bind::new(&source, &Path::new("/etc").join(name))?);
    }
    let switch = Path::new("/etc/nsswitch.conf");
    if switch.exists() {
        let source = folder.join("nsswitch.conf");
        std::fs::write(&source, NSSWITCH)?;
        binds.push(Bind::new(&source, switch)?);
    }
    let cache = Path::new("/run/nscd");
    if cache.is_dir() {
        let empty = folder.join("empty");
        std::fs::create_dir_all(&empty)?;
        binds.push(Bind::new(&empty, cache)?);
    }
    Ok(binds)
}

const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";
