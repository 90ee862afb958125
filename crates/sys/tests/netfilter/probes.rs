//! Probes answer, and change nothing.

use daymark_netlink::nft::Query;
use daymark_sys::probe::{self, Capabilities, Release};

use crate::Outcome;
use crate::objects::socket;

pub(crate) fn probes() -> Outcome {
    let mut socket = socket();
    let before = socket.generation().expect("always there").id;
    let nat = probe::nft_nat(&mut socket).expect("it can be asked");
    assert!(nat.is_yes(), "{nat}");
    let persistent = probe::persistent_owner(&mut socket).expect("it can be asked");
    let new = Release::running() >= Some(Release { major: 6, minor: 9 });
    assert_eq!(persistent.is_yes(), new, "{persistent}");
    assert_eq!(socket.query(&Query::Tables(None)).expect("readable"), []);
    assert_eq!(
        socket.generation().expect("always there").id,
        before,
        "nothing was committed"
    );
    assert!(
        Capabilities::of_this_thread()
            .expect("readable")
            .net_admin()
            .is_yes()
    );
    without_privilege(&mut socket);
    Outcome::Passed
}

fn without_privilege(socket: &mut daymark_sys::netlink::NfSocket) {
    let sets = rustix::thread::capabilities(None).expect("own capabilities");
    let effective = rustix::thread::CapabilitySet::empty();
    let without = rustix::thread::CapabilitySets { effective, ..sets };
    rustix::thread::set_capabilities(None, without).expect("less is always allowed");
    let nat = probe::nft_nat(socket);
    let missing = Capabilities::of_this_thread();
    rustix::thread::set_capabilities(None, sets).expect("they are still permitted");
    let nat = nat.expect("it can be asked").to_string();
    assert!(nat.contains("CAP_NET_ADMIN"), "{nat}");
    assert!(!missing.expect("readable").net_admin().is_yes());
}
