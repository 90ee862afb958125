use std::collections::{BTreeMap, BTreeSet};

use daymark_model::desired::Reason;
use daymark_model::{Delta, Packet, Target, World, decide};

use super::{Judge, Outcome, Seen, Spread, judge, judge_model, judge_with};
use crate::Case;

const STICKY: &str = "\
node node-1 172.30.0.11 pods=10.244.1.0/24
service web ClusterIP 80/TCP cluster=10.96.0.20 external=172.30.0.240 external-policy=Local affinity=ClientIP
endpoint 10.244.1.5 ready on node-1
endpoint 10.244.1.6 ready on node-1
packet 10.244.1.9 -> 10.96.0.20:80/TCP expect 10.244.1.5 10.244.1.6 source-kept sticky=a because x
packet 10.244.1.9 -> 172.30.0.240:80/TCP expect 10.244.1.5 10.244.1.6 source-kept sticky=a because x
";

fn case(text: &str) -> Case {
    Case::parse("x.case", text).expect("the text is a case")
}

/// A judge that tried: it says which of the endpoints allowed, by number, its connections met.
struct Tried<'a> {
    desired: daymark_model::Desired,
    met: BTreeMap<&'a str, Vec<usize>>,
}

impl Judge for Tried<'_> {
    fn enter(&mut self, world: &World, _: &Delta) -> Result<(), String> {
        self.desired = world.desired().clone();
        Ok(())
    }

    fn see(&mut self, packet: &Packet) -> Result<Seen, String> {
        let Outcome::Forward(all) = decide(&self.desired, packet).into() else {
            return Err("not forwarded".to_owned());
        };
        let met = &self.met[&*packet.destination.to_string()];
        let all: Vec<Target> = all.into_iter().collect();
        let met: BTreeSet<Target> = met.iter().map(|index| all[*index]).collect();
        Ok(Seen {
            outcome: Outcome::Forward(met),
            spread: Spread::Probed,
        })
    }
}

fn tried(text: &str, first: &[usize], second: &[usize]) -> Vec<String> {
    let mut tried = Tried {
        desired: daymark_model::Desired::default(),
        met: BTreeMap::from([
            ("10.96.0.20", first.to_vec()),
            ("172.30.0.240", second.to_vec()),
        ]),
    };
    let report = judge(&case(text), &mut tried);
    assert_eq!(report.checks, 2);
    report.failures.iter().map(ToString::to_string).collect()
}

#[test]
fn a_sticky_client_meets_one_endpoint_by_every_address() {
    assert_eq!(judge_model(&case(STICKY)).failures, []);
    assert_eq!(tried(STICKY, &[1], &[1]), [""; 0]);
    assert_eq!(
        tried(STICKY, &[0, 1], &[1]).len(),
        1,
        "two endpoints are not one"
    );
    assert_eq!(
        tried(STICKY, &[0], &[1]),
        [
            "x.case:6: packet 10.244.1.9 -> 172.30.0.240:80/TCP: expected 10.244.1.5:80 10.244.1.6:80 \
          source-kept sticky=a, got 10.244.1.6:80 source-kept (as probed), while packets marked a \
          before it met 10.244.1.5:80"
        ]
    );
}

#[test]
fn a_client_that_does_not_stick_meets_all_endpoints() {
    let text = STICKY
        .replace(" sticky=a", "")
        .replace(" affinity=ClientIP", "");
    assert_eq!(judge_model(&case(&text)).failures, []);
    assert_eq!(tried(&text, &[0, 1], &[0, 1]), [""; 0]);
    assert_eq!(tried(&text, &[0], &[0, 1]).len(), 1);
}

#[test]
fn stickiness_is_part_of_the_verdict() {
    let asked_in_vain = STICKY.replace(" affinity=ClientIP", "");
    assert_eq!(judge_model(&case(&asked_in_vain)).failures.len(), 2);
    let not_asked = STICKY.replace(" sticky=a", "");
    let report = judge_model(&case(&not_asked));
    assert_eq!(report.failures.len(), 2);
    assert_eq!(
        report.failures[0].got,
        "10.244.1.5:80 10.244.1.6:80 source-kept sticky (by 10.244.1.9 default/web/TCP)"
    );
}

#[test]
fn marks_of_two_clients_are_not_one() {
    let text = STICKY.replace("packet 10.244.1.9 -> 172", "packet 10.244.1.8 -> 172");
    assert_eq!(judge_model(&case(&text)).failures.len(), 1);
}

#[test]
fn each_part_of_a_verdict_counts() {
    let forward = "\
node node-1 172.30.0.11 pods=10.244.1.0/24
service web ClusterIP 80/TCP cluster=10.96.0.20
endpoint 10.244.1.5 ready on node-1
packet 10.244.1.9 -> 10.96.0.20:80/TCP expect VERDICT because no-endpoint
";
    for (verdict, failures) in [
        ("10.244.1.5 source-kept", 0),
        ("10.244.1.5=source-kept", 0),
        ("10.244.1.5 masqueraded", 1),
        ("10.244.1.5:81 source-kept", 1),
        ("10.244.1.6 source-kept", 1),
        ("10.244.1.5 10.244.1.6 source-kept", 1),
        ("refuse", 1),
        ("drop", 1),
        ("untouched", 1),
    ] {
        let case = case(&forward.replace("VERDICT", verdict));
        assert_eq!(judge_model(&case).failures.len(), failures, "{verdict}");
    }
}

#[test]
fn a_reason_counts_where_the_judge_knows_it() {
    let text = "\
service web ClusterIP 80/TCP cluster=10.96.0.20
packet 10.244.1.9 -> 10.96.0.20:80/TCP expect refuse because no-endpoint
packet 10.244.1.9 -> 10.96.0.20:80/TCP expect refuse because unknown-port
packet 10.244.1.9 -> 10.96.0.20:80/TCP expect drop because no-endpoint
packet 10.244.1.9 -> 10.96.0.99:80/TCP expect untouched because it is nobody's
";
    struct Refuses(Option<Reason>);
    impl Judge for Refuses {
        fn enter(&mut self, _: &World, _: &Delta) -> Result<(), String> {
            Ok(())
        }
        fn see(&mut self, _: &Packet) -> Result<Seen, String> {
            Ok(Seen {
                outcome: Outcome::Refuse(self.0),
                spread: Spread::Probed,
            })
        }
    }
    let lines = |report: super::Report| -> Vec<usize> {
        report.failures.iter().map(|failure| failure.line).collect()
    };
    assert_eq!(lines(judge_model(&case(text))), [3, 4]);
    assert_eq!(lines(judge(&case(text), &mut Refuses(None))), [4, 5]);
    assert_eq!(
        lines(judge(&case(text), &mut Refuses(Some(Reason::NoEndpoint)))),
        [3, 4, 5]
    );
}

#[test]
fn a_judge_that_cannot_get_there_fails_every_packet() {
    struct Broken;
    impl Judge for Broken {
        fn enter(&mut self, _: &World, _: &Delta) -> Result<(), String> {
            Err("the kernel said no".to_owned())
        }
        fn see(&mut self, _: &Packet) -> Result<Seen, String> {
            unreachable!("nothing is sent in a state that was not reached")
        }
    }
    let report = judge(&case(STICKY), &mut Broken);
    assert_eq!(report.failures.len(), 2);
    assert_eq!(report.failures[1].got, "the kernel said no");
}

#[test]
fn a_judge_of_another_opinion_is_told_where() {
    let report = judge_with(&case(STICKY), |_, _| daymark_model::Verdict::Untouched);
    assert_eq!(report.failures.len(), 2);
    assert_eq!(report.failures[0].line, 5);
    assert_eq!(report.failures[0].got, "untouched");
}
