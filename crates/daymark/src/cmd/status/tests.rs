use daymark_node::ask::wire::{Conflict, Count, Part, Refused, Unusable};

use super::*;

fn status() -> Status {
    let count = |of: &str, wanted, held| Count {
        table: "ip daymark".to_owned(),
        of: of.to_owned(),
        wanted,
        held,
    };
    Status {
        node: "node-1".to_owned(),
        healthy: true,
        generation: Some(7),
        last_change_seconds: Some(0.5),
        behind_seconds: None,
        parts: vec![Part {
            name: "plane".to_owned(),
            healthy: true,
            text: "the kernel holds generation 7".to_owned(),
        }],
        counts: vec![
            count("fe-a", Some(2), Some(2)),
            count("fe-b", Some(0), Some(0)),
            count("sticky", None, Some(3)),
            count("hits", None, None),
        ],
        differences: Vec::new(),
        differences_total: 0,
        unread: None,
        refused: Vec::new(),
        conflicts: Vec::new(),
        unusable: Vec::new(),
        unusable_total: 0,
    }
}

#[test]
fn a_healthy_node_is_a_short_table() {
    assert_eq!(
        table(&status()),
        "node-1: healthy\n\n\
         PART   STATE\nplane  ok     the kernel holds generation 7\n\n\
         TABLE       OF      WANTED  HELD\nip daymark  fe-a    2       2\nip daymark  sticky  -       3\n\n\
         no differences\n"
    );
}

#[test]
fn what_is_wrong_is_named() {
    let mut status = status();
    status.healthy = false;
    status.parts[0].healthy = false;
    status.differences_total = 2;
    status.differences.push(Difference {
        table: "ip daymark".to_owned(),
        object: Some("fe-a".to_owned()),
        shown: "10.96.0.7 . tcp . 80".to_owned(),
        agreement: "missing".to_owned(),
        about: vec!["Service port default/web/TCP".to_owned()],
    });
    status.refused.push(Refused {
        subject: "Service port default/big/TCP".to_owned(),
        shown: "element of slots".to_owned(),
        reason: "Too many open files".to_owned(),
    });
    status.conflicts.push(Conflict {
        port: "default/web/TCP".to_owned(),
        at: "192.0.2.1:80/TCP".to_owned(),
        held_by: "default/old/TCP".to_owned(),
        why: Some("is as old, and its name comes first".to_owned()),
    });
    status.unusable_total = 3;
    status.unusable.push(Unusable {
        kind: "EndpointSlice".to_owned(),
        name: "default/web-1".to_owned(),
        values: vec!["ports[0].port: 70000 is not a port".to_owned()],
        more: 7,
    });
    let told = table(&status);
    for part in [
        "node-1: NOT healthy",
        "plane  NOT OK",
        "2 differences",
        "missing  ip daymark fe-a  10.96.0.7 . tcp . 80  Service port default/web/TCP",
        "... and 1 more",
        "Service port default/big/TCP: element of slots: Too many open files",
        "values that cannot be used\n  EndpointSlice default/web-1: ports[0].port: 70000 is not a port; and 7 more\n",
        "  ... and of 2 more objects\n",
        "held by another Service\n",
        "default/web/TCP asks for 192.0.2.1:80/TCP, which default/old/TCP has: it is as old, and its name comes first\n",
    ] {
        assert!(told.contains(part), "{part} is not in:\n{told}");
    }
}
