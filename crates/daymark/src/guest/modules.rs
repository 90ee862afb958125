//! The kernel modules that a guest loads: found by name, each behind those that it needs.
//!
//! A package that was unpacked but not installed has no `modules.dep`: what a module needs stands in the module
//! itself (`include/linux/module.h`, `MODULE_INFO`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// What the lab and the nftables plane need, by name; `*` stands for anything.
pub(super) const LAB: &[&str] = &[
    "nf_tables",
    "nft_*",
    "nf_conntrack_netlink",
    "nf_nat",
    "nf_log_syslog",
    "nfnetlink_log",
    "sctp",
    "veth",
    "bridge",
    "dummy",
    "tun",
    "inet_diag",
    "tcp_diag",
];

/// A kernel's modules, `/lib/modules/RELEASE`.
pub(super) struct Tree {
    release: String,
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// A module, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) image: Vec<u8>,
}

impl Tree {
    /// Reads which modules there are.
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let release = folder.file_name().unwrap_or_default().to_string_lossy();
        let mut files = BTreeMap::new();
        collect(&folder.join("kernel"), &mut files)?;
        let listed = std::fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        let builtin = listed.lines().filter_map(|line| name_of(Path::new(line)));
        Ok(Self {
            release: release.into_owned(),
            files,
            builtin: builtin.collect(),
        })
    }

    /// The modules wanted and all that they need, in the order in which to load them.
    pub(super) fn resolve(&self, wanted: &[String]) -> anyhow::Result<Vec<Module>> {
        let mut loaded = Vec::new();
        let mut seen = BTreeSet::new();
        for pattern in wanted {
            for name in self.matching(pattern)? {
                self.visit(&name, &mut seen, &mut loaded)?;
            }
        }
        Ok(loaded)
    }

    /// The names that a pattern stands for; none when all of it is in the kernel itself.
    fn matching(&self, pattern: &str) -> anyhow::Result<Vec<String>> {
        let fits = |name: &&String| matches(&pattern.replace('-', "_"), name);
        let found: Vec<String> = self.files.keys().filter(fits).cloned().collect();
        if found.is_empty() && !self.builtin.iter().any(|name| fits(&name)) {
            bail!(
                "kernel {} has no module {pattern}: leave it out, or take a kernel that has it",
                self.release
            );
        }
        Ok(found)
    }

    fn visit(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        loaded: &mut Vec<Module>,
    ) -> anyhow::Result<()> {
        if !seen.insert(name.to_owned()) || self.builtin.contains(name) {
            return Ok(());
        }
        let Some(file) = self.files.get(name) else {
            bail!("kernel {} lacks the module {name}", self.release);
        };
        let image = plain(file)?;
        for needed in needs(&image) {
            match needed {
                Needed::Symbols(name) => self.visit(&name, seen, loaded)?,
                // An algorithm may have several modules; one that is not there is none of this kernel's.
                Needed::Before(name) if self.files.contains_key(&name) => {
                    self.visit(&name, seen, loaded)?;
                }
                Needed::Before(_) => {}
            }
        }
        let name = name.to_owned();
        loaded.push(Module { name, image });
        Ok(())
    }
}

/// Why another module is loaded first.
enum Needed {
    /// It has symbols that are used.
    Symbols(String),
    /// It should be there at run time (`MODULE_SOFTDEP`).
    Before(String),
}

/// What a module says that it needs.
fn needs(image: &[u8]) -> Vec<Needed> {
    let mut found = Vec::new();
    for text in info(image, b"depends=") {
        let names = text.split(',').filter(|name| !name.is_empty());
        found.extend(names.map(|name| Needed::Symbols(plain_name(name))));
    }
    for text in info(image, b"softdep=pre: ") {
        let before = text.split("post:").next().unwrap_or_default();
        let names = before.split_whitespace();
        found.extend(names.map(|name| Needed::Before(plain_name(name))));
    }
    found
}

/// The values of a key in the section `.modinfo`: texts that end with a zero byte, one behind the other.
fn info<'a>(image: &'a [u8], key: &'a [u8]) -> impl Iterator<Item = String> + 'a {
    let texts = image.split(|byte| *byte == 0);
    let values = texts.filter_map(move |text| text.strip_prefix(key));
    values.map(|value| String::from_utf8_lossy(value).into_owned())
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    let shown = folder.display();
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {shown}"))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {shown}"))?
            .path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = name_of(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// The name of a module by its file, `nf-x.ko.xz` or `nf_x.ko`.
fn name_of(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, ending) = file.split_once(".ko")?;
    let known = ["", ".xz", ".zst", ".gz"].contains(&ending);
    known.then(|| plain_name(name))
}

/// The kernel takes `-` and `_` for the same.
fn plain_name(name: &str) -> String {
    name.replace('-', "_")
}

/// The content of a module's file, unpacked.
fn plain(file: &Path) -> anyhow::Result<Vec<u8>> {
    let tool = match file.extension().and_then(|end| end.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return std::fs::read(file).with_context(|| format!("cannot read {}", file.display())),
    };
    let output = Command::new(tool).arg("-dc").arg(file).output();
    let output = output.with_context(|| format!("cannot run {tool}: install it"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{tool} cannot unpack {}: {}", file.display(), said.trim());
    }
    Ok(output.stdout)
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|left| {
            (0..=left.len())
                .filter(|at| left.is_char_boundary(*at))
                .any(|at| matches(rest, &left[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of modules with what each says of itself.
    fn tree(modules: &[(&str, &str)], builtin: &str) -> (tempfile::TempDir, Tree) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("6.1.0-test");
        for (file, info) in modules {
            let path = folder.join("kernel").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("ELF\0license=GPL\0{info}\0vermagic=6.1\0")).unwrap();
        }
        std::fs::write(folder.join("modules.builtin"), builtin).unwrap();
        let tree = Tree::read(&folder).unwrap();
        (root, tree)
    }

    fn order(tree: &Tree, wanted: &[&str]) -> anyhow::Result<Vec<String>> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        let modules = tree.resolve(&wanted)?;
        Ok(modules.into_iter().map(|module| module.name).collect())
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it_and_once() {
        let modules = [
            ("net/nft_nat.ko", "depends=nf_tables,nf-nat"),
            ("net/nft_masq.ko", "depends=nf_tables,nf_nat"),
            ("net/nf-nat.ko", "depends=nf_conntrack"),
            (
                "net/nf_conntrack.ko",
                "depends=\0softdep=pre: crc_x absent post: late",
            ),
            ("net/nf_tables.ko", "depends=builtin_one"),
            ("crypto/crc_x.ko", "depends="),
            ("net/late.ko", "depends="),
        ];
        let (_root, tree) = tree(&modules, "kernel/lib/builtin-one.ko\n");
        let expected = [
            "nf_tables",
            "crc_x",
            "nf_conntrack",
            "nf_nat",
            "nft_masq",
            "nft_nat",
        ];
        assert_eq!(
            order(&tree, &["nft_*", "nf-nat", "builtin_one"]).unwrap(),
            expected
        );
    }

    #[test]
    fn a_module_that_is_nowhere_is_named_with_its_kernel() {
        let (_root, tree) = tree(&[("a.ko", "depends=gone")], "");
        let error = order(&tree, &["ip_vs*"]).unwrap_err().to_string();
        assert!(
            error.starts_with("kernel 6.1.0-test has no module ip_vs*: "),
            "{error}"
        );
        let error = order(&tree, &["a"]).unwrap_err().to_string();
        assert_eq!(error, "kernel 6.1.0-test lacks the module gone");
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, fits) in [
            ("nft_*", "nft_nat", true),
            ("nft_*", "nf_nat", false),
            ("*_nat", "nf_nat", true),
            ("n*_*t", "nft_nat", true),
            ("nf_nat", "nf_nat", true),
            ("nf_nat", "nf_nat_sip", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
