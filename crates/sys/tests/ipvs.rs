//! IPVS against the kernel, in a network namespace of this program's own, before it has a second thread.
//!
//! Kernels without IPVS, and users other than root, skip it, which is printed and counted; with `DAYMARK_NEED_IPVS` set (a
//! guest that has it, `kernels/test`) that is a failure.
#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test program without harness prints its own lines, and reads its environment"
)]

use std::process::ExitCode;

use daymark_netlink::ipvs::VirtualServer;
use daymark_sys::ipvs::IpvsSocket;
use rustix::process::geteuid;
use rustix::thread::UnshareFlags;

const TEST: &str = "virtual_servers_are_listed_and_removed_one_by_one";

fn main() -> ExitCode {
    match try_it() {
        Ok(()) => {
            println!("test {TEST} ... ok");
            println!("1 passed; 0 failed; 0 skipped");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            println!("test {TEST} ... SKIPPED: {reason}");
            println!("0 passed; 0 failed; 1 skipped");
            match std::env::var_os("DAYMARK_NEED_IPVS") {
                Some(_) => ExitCode::FAILURE,
                None => ExitCode::SUCCESS,
            }
        }
    }
}

/// Why it cannot be tried; a failed test panics.
fn try_it() -> Result<(), String> {
    if !geteuid().is_root() {
        return Err("IPVS takes root".to_owned());
    }
    // SAFETY: file descriptors stay shared and this program has one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .map_err(|error| format!("no network namespace: {error}"))?;
    let Some(mut ipvs) = IpvsSocket::open().unwrap() else {
        return Err("this kernel has no IPVS".to_owned());
    };
    let at = |protocol, address: &str, port| VirtualServer::Address {
        protocol,
        address: address.parse().unwrap(),
        port,
    };
    let marked = VirtualServer::Mark { family: 2, mark: 7 };
    let mut all = vec![
        at(6, "10.96.0.1", 443),
        at(17, "10.96.0.10", 53),
        at(132, "10.96.0.11", 9),
        at(6, "fd00:10:96::1", 443),
        marked,
    ];
    for server in &all {
        ipvs.add(*server)
            .unwrap_or_else(|error| panic!("{server}: {error}"));
    }
    let held = |ipvs: &mut IpvsSocket| {
        let mut servers = ipvs.servers().unwrap();
        servers.sort_unstable();
        servers
    };
    all.sort_unstable();
    assert_eq!(held(&mut ipvs), all);
    while let Some(server) = all.pop() {
        ipvs.remove(server)
            .unwrap_or_else(|error| panic!("{server}: {error}"));
        assert_eq!(held(&mut ipvs), all);
        ipvs.remove(server).expect("one that is gone is no error");
    }
    Ok(())
}
