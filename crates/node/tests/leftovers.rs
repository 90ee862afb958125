//! What kube-proxy left goes, in a namespace of its own; what is not its own stays.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::apply::{Kernel, Plane};
use daymark_dataplane::nft::kernel::Netlink;
use daymark_netlink::nft::{
    BaseChain, Chain, ChainKind, ChainType, Exists, Expr, Family, Hook, Message, Name, Place,
    Policy, Query, Reply, Rule, Table, TableId, Verdict,
};
use daymark_node::leftovers::vigil::{News, Vigil};
use daymark_node::leftovers::{
    Outcome, Scope, kube_proxy_has_written, look, remove_kube_proxys, remove_own,
};
use daymark_node::metrics::Metrics;
use daymark_sys::ipset::Destroyed;
use daymark_sys::netlink::NfSocket;
use daymark_sys::ns::isolated_test;
use daymark_sys::probe;
use rtnetlink::{LinkBridge, new_connection};

const SVC: &str = "KUBE-SVC-NPX46M4PTMTKRN6Y";

/// The messages for a table with these chains, of which those in capitals without a dash are hooks, and these jumps.
fn table(family: Family, name: &str, chains: &[&str], jumps: &[(&str, &str)]) -> Vec<Message> {
    let table = TableId::new(family, name);
    let chain = |name: &&str| {
        let base = BaseChain {
            kind: ChainType::Filter,
            hook: Hook::Forward,
            priority: 0,
            policy: Policy::Accept,
            device: None,
        };
        let kind = if name.contains('-') {
            ChainKind::Regular
        } else {
            ChainKind::Base(base)
        };
        let (table, name) = (table.clone(), (*name).into());
        let chain = Chain {
            name,
            kind,
            comment: None,
        };
        Message::NewChain {
            table,
            chain,
            exists: Exists::Keep,
        }
    };
    let rule = |(from, to): &(&str, &str)| Message::NewRule {
        table: table.clone(),
        rule: Rule::new(*from, vec![Expr::Verdict(Verdict::Jump((*to).into()))]),
        place: Place::Last,
    };
    let new = Message::NewTable {
        table: Table::new(table.clone()),
        exists: Exists::Keep,
    };
    let chains = chains.iter().map(chain);
    std::iter::once(new)
        .chain(chains)
        .chain(jumps.iter().map(rule))
        .collect()
}

fn chains_of(kernel: &mut Netlink, family: Family) -> Vec<Name> {
    let replies = kernel.socket().query(&Query::Chains(family)).unwrap();
    let name = |reply| match reply {
        Reply::Chain(held) => held.object.name,
        other => panic!("{other:?}"),
    };
    let mut names: Vec<Name> = replies.into_iter().map(name).collect();
    names.sort_unstable();
    names
}

fn as_kube_proxy_would(kernel: &mut Netlink) {
    let mut messages = table(Family::Ip, "kube-proxy", &["services-x"], &[]);
    messages.extend(table(
        Family::Ip,
        "nat",
        &[
            "PREROUTING",
            "KUBE-SERVICES",
            "KUBE-MARK-MASQ",
            "CNI-HOSTPORT",
            SVC,
        ],
        &[
            ("PREROUTING", "CNI-HOSTPORT"),
            ("PREROUTING", "KUBE-SERVICES"),
            ("KUBE-SERVICES", SVC),
            (SVC, "KUBE-MARK-MASQ"),
            ("CNI-HOSTPORT", "KUBE-MARK-MASQ"),
        ],
    ));
    messages.extend(table(
        Family::Ip6,
        "filter",
        &["FORWARD", "KUBE-FORWARD", "KUBE-FIREWALL"],
        &[("FORWARD", "KUBE-FIREWALL"), ("FORWARD", "KUBE-FORWARD")],
    ));
    messages.extend(table(
        Family::Ip6,
        "mangle",
        &[
            "KUBE-IPTABLES-HINT",
            "KUBE-KUBELET-CANARY",
            "KUBE-PROXY-CANARY",
        ],
        &[],
    ));
    // A table of somebody else's, with a chain of that name.
    messages.extend(table(Family::Ip6, "other", &["KUBE-SERVICES"], &[]));
    kernel.commit(&messages).unwrap();
}

/// Its device; a bridge here, since not every kernel has dummies.
async fn device() {
    let (connection, handle, _) = new_connection().unwrap();
    tokio::spawn(connection);
    let link = LinkBridge::new("kube-ipvs0").build();
    handle.link().add(link).execute().await.unwrap();
}

fn is_refused_here(outcome: &Outcome) -> bool {
    let Outcome::Failed(why) = outcome else {
        return false;
    };
    why.starts_with("IPVS' virtual servers: ") && why.contains("Operation not permitted")
}

/// Sets of its own and another one; what is to be told of them, if this kernel has any.
fn ipsets(socket: &mut NfSocket) -> Option<Outcome> {
    for name in ["KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP", "OTHERS"] {
        if let Err(error) = socket.create_ipset(name) {
            let _ = writeln!(
                std::io::stderr(),
                "test what_kube_proxy_left ... SKIPPED: its ipsets, this kernel makes none: {error}"
            );
            return None;
        }
    }
    Some(Outcome::Removed("2 ipsets".to_owned()))
}

#[test]
fn what_kube_proxy_left_goes_and_nothing_else() {
    let test = "what_kube_proxy_left_goes_and_nothing_else";
    isolated_test(test, || {
        let mut kernel = Netlink::open().unwrap();
        as_kube_proxy_would(&mut kernel);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            device().await;
            assert!(look().await.unwrap().found.contains("table ip kube-proxy"));
            let removed = |what: &str| Outcome::Removed(what.to_owned());
            let sets = ipsets(kernel.socket());
            let mut outcomes = remove_kube_proxys(Scope::default()).await;
            // Kernels that have IPVS let nobody in a user namespace ask for its servers; crates/sys/tests/ipvs.rs does as root.
            outcomes.retain(|outcome| !is_refused_here(outcome));
            let mut expected = vec![
                removed("table ip kube-proxy"),
                removed("2 chains of table ip nat"),
                Outcome::Kept(
                    "chain KUBE-MARK-MASQ of table ip nat: rules of others jump to it".to_owned(),
                ),
                removed("1 chains of table ip6 filter"),
                removed("1 chains of table ip6 mangle"),
            ];
            expected.extend(sets.clone());
            expected.push(removed("device kube-ipvs0"));
            assert_eq!(outcomes, expected);
            let stays = ["chain KUBE-MARK-MASQ of table ip nat".to_owned()];
            assert_eq!(look().await.unwrap().found, stays.into());
            if sets.is_some() {
                let of_others = kernel.socket().destroy_ipset("OTHERS");
                assert_eq!(of_others.unwrap(), Destroyed::Now);
            }
            let again = remove_kube_proxys(Scope::default()).await;
            assert!(
                again
                    .iter()
                    .all(|outcome| matches!(outcome, Outcome::Removed(_)))
                    && again.is_empty(),
                "{again:?}"
            );
        });
        let left = chains_of(&mut kernel, Family::Ip);
        assert_eq!(
            left,
            ["CNI-HOSTPORT", "KUBE-MARK-MASQ", "PREROUTING"].map(Name::from)
        );
        let left = chains_of(&mut kernel, Family::Ip6);
        let expected = [
            "FORWARD",
            "KUBE-FIREWALL",
            "KUBE-IPTABLES-HINT",
            "KUBE-KUBELET-CANARY",
            "KUBE-SERVICES",
        ];
        assert_eq!(left, expected.map(Name::from));
    });
}

/// One rule more in a chain that it writes anew at each sync, as the only change.
fn writes(kernel: &mut Netlink) {
    let rule = Message::NewRule {
        table: TableId::new(Family::Ip, "nat"),
        rule: Rule::new(
            "KUBE-SERVICES",
            vec![Expr::Verdict(Verdict::Jump(SVC.into()))],
        ),
        place: Place::Last,
    };
    kernel.commit(&[rule]).unwrap();
}

#[test]
fn what_kube_proxy_left_when_it_ended_again_goes_again() {
    let test = "what_kube_proxy_left_when_it_ended_again_goes_again";
    isolated_test(test, || {
        let mut kernel = Netlink::open().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let metrics = Arc::new(Metrics::default());
            let gauge = |value: u8| {
                let line = format!("daymark_kube_proxy_rules {value}\n");
                assert!(metrics.families().contains(&line), "no {line}");
            };
            let removed = remove_kube_proxys(Scope::default()).await;
            assert_eq!(removed, []);
            let pace = Duration::from_millis(100);
            let mut vigil = Vigil::new(pace, Scope::default(), &removed, Arc::clone(&metrics));
            let none = tokio::time::timeout(pace * 4, vigil.next()).await;
            assert!(none.is_err(), "{none:?}");
            gauge(0);
            as_kube_proxy_would(&mut kernel);
            let back = tokio::time::timeout(Duration::from_secs(20), vigil.next()).await;
            let what = "chain KUBE-FORWARD of table ip6 filter".to_owned();
            assert_eq!(back.unwrap(), News::Back(what));
            gauge(1);
            // While it writes it is left, and nothing is said again.
            for _ in 0..6 {
                writes(&mut kernel);
                let none = tokio::time::timeout(pace + pace / 2, vigil.next()).await;
                assert!(none.is_err(), "{none:?}");
            }
            let removed = tokio::time::timeout(Duration::from_secs(20), vigil.next()).await;
            let Ok(News::Removed { outcomes, .. }) = removed else {
                panic!("{removed:?}");
            };
            assert!(outcomes.contains(&Outcome::Removed("table ip kube-proxy".to_owned())));
            // A chain that others use stays, and is no sign of kube-proxy.
            let none = tokio::time::timeout(pace * 6, vigil.next()).await;
            assert!(none.is_err(), "{none:?}");
            gauge(0);
        });
        let left = chains_of(&mut kernel, Family::Ip);
        assert_eq!(
            left,
            ["CNI-HOSTPORT", "KUBE-MARK-MASQ", "PREROUTING"].map(Name::from)
        );
    });
}

#[test]
fn own_tables_go_once_their_agent_has_ended() {
    let test = "own_tables_go_once_their_agent_has_ended";
    isolated_test(test, || {
        let mut kernel = Netlink::open().unwrap();
        let owned = probe::persistent_owner(kernel.socket()).unwrap().is_yes();
        let flags = if owned {
            TableFlags::OWNER | TableFlags::PERSIST
        } else {
            TableFlags::NONE
        };
        let plane = Plane::start(kernel, flags).unwrap();
        if owned {
            let outcomes = remove_own();
            let owner = |outcome: &Outcome| matches!(outcome, Outcome::Failed(why) if why.contains("stop the other daymark agent"));
            assert!(
                outcomes.len() == 2 && outcomes.iter().all(owner),
                "{outcomes:?}"
            );
        } else {
            let _ = writeln!(
                std::io::stderr(),
                "test {test} ... SKIPPED: its first half needs Linux 6.9"
            );
        }
        drop(plane);
        let gone = ["ip", "ip6"].map(|family| Outcome::Removed(format!("table {family} daymark")));
        assert_eq!(remove_own(), gone);
        assert_eq!(remove_own(), []);
    });
}

#[test]
fn a_proxy_has_written_its_rules_once_there_is_what_only_a_whole_sync_makes() {
    isolated_test(
        "a_proxy_has_written_its_rules_once_there_is_what_only_a_whole_sync_makes",
        || {
            let mut kernel = Netlink::open().unwrap();
            assert!(!kube_proxy_has_written());
            let before = ["KUBE-PROXY-CANARY", "KUBE-SERVICES", "KUBE-POSTROUTING"];
            let mut begun = table(Family::Ip, "nat", &before, &[]);
            begun.extend(table(Family::Ip, "filter", &["KUBE-NODEPORTS"], &[]));
            kernel.commit(&begun).unwrap();
            assert!(!kube_proxy_has_written(), "a sync has begun");
            for (family, name, chain) in [
                (Family::Ip6, "nat", "KUBE-NODEPORTS"),
                (Family::Ip6, "kube-proxy", "services-x"),
            ] {
                kernel
                    .commit(&table(family, name, &["KUBE-SERVICES", chain], &[]))
                    .unwrap();
                assert!(kube_proxy_has_written(), "{name}");
                let table = TableId::new(family, name);
                kernel.commit(&[Message::DelTable { table }]).unwrap();
                assert!(!kube_proxy_has_written(), "{name} is gone");
            }
        },
    );
}
