//! What verdicts about flows say of themselves and of each other, and while they wait.

use super::*;

/// Whatever changes: a half-closed connection whose leave abandons nothing fares as one that is open, and one that is
/// abandoned never fares better.
#[test]
fn who_is_heard_fares_as_if_nobody_had_taken_leave() {
    for row in ROWS.iter().filter(|row| row.protocol == Protocol::Tcp) {
        let verdicts = verdicts_of(row);
        for (original, answers, _) in row.flows {
            let open = answered(Protocol::Tcp, original, answers);
            let stale = |stage| verdicts.is_stale(&Flow { stage, ..open });
            for leave in Leave::ALL {
                let (closed, open) = (stale(Stage::Silent(leave)), stale(Stage::Answered));
                match leave.abandons() {
                    true => assert!(closed || !open, "{}: {leave:?}", row.what),
                    false => assert_eq!(closed, open, "{}: {leave:?}", row.what),
                }
            }
        }
    }
}

#[test]
fn of_two_verdicts_the_newer_counts() {
    let text = format!(
        "{NODE}{TWO}\nstep then\nremove endpoint 10.244.2.5 of dns\n\
         step again\nendpoint 10.244.2.5 ready on node-2 of dns\n\
         step elsewhere\nnode node-1 172.30.0.13 fd00:30::11 pods=10.244.1.0/24\n"
    );
    let flow = udp("10.96.0.10:53", "10.244.2.5:53");
    let node_port = udp("172.30.0.11:30053", "10.244.1.5:53");
    let mut all = flows::Verdicts::default();
    let mut stale = Vec::new();
    for newer in judged(&text) {
        all.extend(newer);
        stale.push((all.is_stale(&flow), all.is_stale(&node_port)));
    }
    let expected = [(false, false), (true, false), (false, false), (false, true)];
    assert_eq!(stale, expected);
}

#[test]
fn a_place_that_is_no_frontend_any_more_is_let_go_with_its_service() {
    let text = format!(
        "{NODE}{WEB}\nstep then\nremove endpoint 10.244.1.5 of web\nstep gone\nremove service web\n"
    );
    let abandoned = Flow {
        stage: Stage::Silent(Leave::EndpointHeard),
        ..answered(Protocol::Tcp, "10.96.0.20:80", "10.244.1.5:80")
    };
    let mut all = flows::Verdicts::default();
    let mut seen = Vec::new();
    for newer in judged(&text) {
        all.extend_frontends(&newer);
        seen.push((all.is_stale(&abandoned), all.is_empty()));
    }
    assert_eq!(seen, [(false, false), (true, false), (false, true)]);
}

/// A node has thousands in its time, where IPv6 addresses are temporary.
#[test]
fn an_address_that_serves_node_ports_no_more_is_let_go_too() {
    let mut text = format!("{NODE}{WEB}\nstep away\nremove endpoint 10.244.1.5 of web\n");
    for last in 13..20 {
        let moved = format!("node node-1 172.30.0.{last} fd00:30::{last}");
        text += &format!("step moves\n{moved} pods=10.244.1.0/24\n");
    }
    let mut all = flows::Verdicts::default();
    for newer in judged(&text) {
        all.extend_frontends(&newer);
    }
    let held = format!("{all:?}");
    assert!(held.contains("172.30.0.19"));
    for last in [11, 13, 18] {
        assert!(!held.contains(&format!("172.30.0.{last}")), "{held}");
    }
    let abandoned = |to| Flow {
        stage: Stage::Silent(Leave::EndpointHeard),
        ..answered(Protocol::Tcp, to, "10.244.1.5:80")
    };
    for (to, stale) in [
        ("172.30.0.11:30080", false),
        ("172.30.0.18:30080", false),
        ("172.30.0.19:30080", true),
    ] {
        assert_eq!(all.is_stale(&abandoned(to)), stale, "{to}");
    }
}

#[test]
fn verdicts_say_what_they_are_about() {
    let nothing = flows::Verdicts::default();
    assert!(nothing.is_empty() && !nothing.concern_standing());
    assert!(
        !Protocol::ALL
            .iter()
            .any(|protocol| nothing.concern(*protocol))
    );
    let concern = |text: &str| {
        let verdicts = judged(text).pop().expect("a step");
        assert!(!verdicts.is_empty());
        let protocols = Protocol::ALL.map(|protocol| verdicts.concern(protocol));
        (protocols, verdicts.concern_standing())
    };
    assert_eq!(
        concern(&format!("{NODE}{TWO}\n")),
        ([false, true, false], false)
    );
    assert_eq!(
        concern(&format!("{NODE}{WEB}\n")),
        ([true, false, false], false)
    );
    assert_eq!(concern(&format!("{RESET}\n")), ([true, false, false], true));
}

/// Of the kernel's flows only those of such a family are looked through.
#[test]
fn verdicts_say_which_families_they_are_about() {
    let families = |text: &str, protocol| {
        let verdicts = judged(text).pop().expect("a step");
        Family::BOTH.map(|family| verdicts.concern_in(family, protocol))
    };
    let (one, both) = (format!("{NODE}{WEB}\n"), format!("{NODE}{TWO}\n"));
    assert_eq!(families(&one, Protocol::Tcp), [true, false]);
    assert_eq!(families(&one, Protocol::Udp), [false, false]);
    assert_eq!(families(&both, Protocol::Udp), [true, true]);
    assert_eq!(families(&both, Protocol::Tcp), [false, false]);
}

/// Verdicts wait before they are carried out: what came back meanwhile is not forgotten, and what was spared is not
/// condemned.
#[test]
fn verdicts_that_wait_learn_what_may_go_on_again_and_nothing_else() {
    let text = format!(
        "{NODE}{TWO}\nstep one goes\nremove endpoint 10.244.2.5 of dns\n\
         step they change places\nremove endpoint 10.244.1.5 of dns\nendpoint 10.244.2.5 ready on node-2 of dns\n\
         step the other family\nremove endpoint fd00:10:244:1::5 of dns\n"
    );
    let steps = judged(&text);
    let mut waiting = steps[1].clone();
    waiting.soften(&steps[1].clone());
    assert_eq!(waiting, steps[1]);
    waiting.soften(&flows::Verdicts::default());
    assert_eq!(waiting, steps[1]);
    waiting.soften(&steps[2]);
    for (endpoint, stale) in [
        ("10.244.1.5:53", false),
        ("10.244.2.5:53", false),
        ("10.244.3.5:53", true),
    ] {
        assert_eq!(
            waiting.is_stale(&udp("10.96.0.10:53", endpoint)),
            stale,
            "{endpoint}"
        );
    }
    waiting.soften(&steps[3]);
    let six = udp("[fd00:10:96::a]:53", "[fd00:10:244:1::5]:53");
    assert!(!waiting.is_stale(&six) && steps[3].is_stale(&six));
}

#[test]
fn verdicts_that_wait_learn_of_connections_and_of_node_addresses() {
    let text = format!(
        "{RESET}\nstep one goes\nremove endpoint 10.244.1.5 of web\n\
         step it comes back\nremove endpoint 10.244.2.5 of web\nendpoint 10.244.1.5 ready on node-1 of web\n"
    );
    let steps = judged(&text);
    let mut waiting = steps[1].clone();
    let stands = |endpoint| answered(Protocol::Tcp, "10.96.0.20:80", endpoint);
    assert!(waiting.is_stale(&stands("10.244.1.5:80")));
    waiting.soften(&steps[2]);
    for (endpoint, stale) in [
        ("10.244.1.5:80", false),
        ("10.244.2.5:80", false),
        ("10.244.3.5:80", true),
    ] {
        assert_eq!(waiting.is_stale(&stands(endpoint)), stale, "{endpoint}");
    }
    let moved = "node node-1 172.30.0.13 fd00:30::11 pods=10.244.1.0/24\n";
    let steps = judged(&format!(
        "{NODE}{TWO}\nstep away\n{moved}step and back\n{NODE}"
    ));
    let (there, back) = (&steps[1], &steps[2]);
    let old = udp("172.30.0.11:30053", "10.244.1.5:53");
    let new = udp("172.30.0.13:30053", "10.244.1.5:53");
    assert!(there.is_stale(&old) && back.is_stale(&new));
    let mut waiting = there.clone();
    waiting.soften(back);
    assert!(!waiting.is_stale(&old) && !waiting.is_stale(&new));
}

#[test]
fn suspects_of_several_batches_are_judged_together() {
    let text = format!(
        "{NODE}{TWO}\n{WEB}\nstep the Service goes\nremove service web\n\
         step the node moves\nnode node-1 172.30.0.13 fd00:30::11 pods=10.244.1.0/24\n\
         step and again\nnode node-1 172.30.0.14 fd00:30::11 pods=10.244.1.0/24\n"
    );
    let case = Case::parse("batches", &text).expect("a case");
    let mut world = World::new(case.options.clone());
    world.apply(case.steps[0].changes.iter().cloned());
    let mut all = flows::Suspects::default();
    for step in &case.steps[1..] {
        all.extend(flows::suspects(&world, &step.changes));
        world.apply(step.changes.iter().cloned());
    }
    let verdicts = all.judge(&world);
    let opening = Flow {
        stage: Stage::Opening,
        ..answered(Protocol::Tcp, "10.96.0.20:80", "10.244.1.5:80")
    };
    assert!(verdicts.is_stale(&opening), "the place of the first batch");
    for (address, stale) in [("172.30.0.11", true), ("172.30.0.14", false)] {
        let flow = udp(&format!("{address}:30053"), "10.244.1.5:53");
        assert_eq!(verdicts.is_stale(&flow), stale, "{address}");
    }
}

/// An agent that finds tables of before remembers their places: later batches add to them.
#[test]
fn what_is_remembered_is_kept_when_more_batches_come() {
    let at = daymark_model::FrontendKey::NodePort {
        family: Family::V4,
        protocol: Protocol::Udp,
        port: 30099,
    };
    let mut later = flows::Suspects::default();
    later.remember([at], ["172.30.0.77".parse().expect("an address")]);
    let mut all = flows::Suspects::default();
    all.extend(later);
    let verdicts = all.judge(&World::new(Options::default()));
    assert!(verdicts.is_stale(&udp("172.30.0.77:30099", "10.244.1.5:53")));
    assert!(!verdicts.is_stale(&udp("172.30.0.78:30099", "10.244.1.5:53")));
}

/// Whether a change of the cluster makes it worth to look for abandoned connections.
fn concerns_abandoned(before: &str, change: &str) -> bool {
    let text = format!("{NODE}{before}\nstep then\n{change}\n");
    let case = Case::parse("abandoned", &text).expect("a case");
    let mut world = World::new(Options::default());
    world.apply(case.steps[0].changes.iter().cloned());
    let changes = case.steps[1].changes.clone();
    let suspects = flows::suspects(&world, &changes);
    world.apply(changes);
    suspects.judge(&world).concern_abandoned()
}

#[test]
fn abandoned_connections_are_looked_for_when_an_endpoint_has_left() {
    let rows = [
        ("remove endpoint 10.244.1.5 of web", true),
        ("endpoint 10.244.1.5 not-ready on node-1 of web", false),
        ("endpoint 10.244.1.6 ready on node-1 of web", false),
        (
            "service web NodePort 80/TCP@30081 cluster=10.96.0.20",
            false,
        ),
        (
            "node node-1 172.30.0.13 fd00:30::11 pods=10.244.1.0/24",
            false,
        ),
    ];
    for (change, expected) in rows {
        assert_eq!(concerns_abandoned(WEB, change), expected, "{change}");
    }
    // A slice is whole in every change: what of it matters is whom it names, at which ports, for whom.
    let slice = |of: &str, ports: &str, endpoint: &str| {
        format!("slice solo of {of} IPv4 {ports}\nendpoint {endpoint} on node-1\n")
    };
    let before = slice("web", "80/TCP", "10.244.1.5 ready");
    for (after, expected) in [
        (before.clone(), false),
        (slice("web", "80/TCP", "10.244.1.5 terminating"), false),
        (slice("web", "80/TCP", "10.244.1.6 ready"), true),
        (slice("web", "8080/TCP", "10.244.1.5 ready"), true),
        (slice("other", "80/TCP", "10.244.1.5 ready"), true),
        ("remove slice solo".to_owned(), true),
    ] {
        let web = "service web ClusterIP 80/TCP cluster=10.96.0.20\n";
        let before = format!("{web}{before}");
        assert_eq!(concerns_abandoned(&before, &after), expected, "{after}");
    }
    let suspects = || {
        let mut suspects = flows::Suspects::default();
        let at = daymark_model::FrontendKey::Address {
            ip: "10.96.0.20".parse().expect("an address"),
            protocol: Protocol::Tcp,
            port: 80,
        };
        suspects.remember([at], []);
        suspects
    };
    let verdicts = suspects().judge(&World::new(Options::default()));
    assert!(verdicts.concern_abandoned(), "after a restart");
}
