//! What passes under kube-proxy's rules and would not under daymark's own.

use std::sync::Arc;

use daymark_case::Case;
use daymark_case::random::{self, Random};
use daymark_model::desire::{Here, Wishes, desire};
use daymark_model::laxity::{Laxity, is_lax, laxities, unowned};
use daymark_model::node_ports::UnnamedFamily;
use daymark_model::rules::{Gap, WithoutLocal};
use daymark_model::{Change, Mode, Options, Rules, Service, Slice, World};
use proptest::prelude::*;

const LAX: &str = "options unnamed-family=open ranges-of-one-family=open without-local=cluster\n\
                   node node-1 172.30.0.11 pods=10.244.1.0/24\n";

/// What is told of the only Service of a case.
fn told(options: &str, service: &str) -> Vec<Laxity> {
    let case = Case::parse("here", &format!("{options}{service}\n")).expect("the text is a case");
    let mut world = World::new(case.options.clone());
    world.apply(case.steps[0].changes.iter().cloned());
    let service = world.inputs().services.values().next().expect("a Service");
    laxities(service, world.here())
}

#[test]
fn each_laxity_is_told_of_the_services_that_it_concerns_and_of_no_other() {
    use Laxity::{ExternalLeavesNode, InternalLeavesNode, OpenNodePorts, OpenRanges};
    use daymark_model::Family::{V4, V6};
    let both = "cluster=10.96.0.20,fd00:10:96::20";
    let rows: [(&str, String, &[Laxity]); 15] = [
        (
            "ranges of IPv4 alone",
            format!("LoadBalancer 80/TCP {both} lb=172.30.0.200,fd00:30::200 ranges=10.0.0.0/8"),
            &[OpenRanges(V6)],
        ),
        (
            "ranges of IPv6 alone",
            format!("LoadBalancer 80/TCP {both} lb=172.30.0.200 ranges=fd00::/8"),
            &[OpenRanges(V4)],
        ),
        (
            "ranges of both",
            format!(
                "LoadBalancer 80/TCP {both} lb=172.30.0.200,fd00:30::200 ranges=10.0.0.0/8,fd00::/8"
            ),
            &[],
        ),
        (
            "no address of that family",
            format!("LoadBalancer 80/TCP {both} lb=172.30.0.200 ranges=10.0.0.0/8"),
            &[],
        ),
        (
            "an address of mode Proxy",
            format!("LoadBalancer 80/TCP {both} lb=fd00:30::200:proxy ranges=10.0.0.0/8"),
            &[],
        ),
        (
            "no ranges",
            format!("LoadBalancer 80/TCP {both} lb=fd00:30::200"),
            &[],
        ),
        (
            "no cluster IP of that family",
            "LoadBalancer 80/TCP cluster=10.96.0.20 lb=fd00:30::200 ranges=10.0.0.0/8".to_owned(),
            &[],
        ),
        (
            "a node port of an unnamed family",
            format!("NodePort 80/TCP@30080 {both}"),
            &[OpenNodePorts(V6)],
        ),
        (
            "a node port of a named one",
            "NodePort 80/TCP@30080 cluster=10.96.0.20".to_owned(),
            &[],
        ),
        (
            "a number left over",
            format!("ClusterIP 80/TCP@30080 {both}"),
            &[],
        ),
        (
            "Local outside",
            "NodePort 80/TCP@30080 cluster=10.96.0.20 external-policy=Local".to_owned(),
            &[ExternalLeavesNode],
        ),
        (
            "Local inside, reachable",
            "NodePort 80/TCP@30080 cluster=10.96.0.20 internal-policy=Local".to_owned(),
            &[InternalLeavesNode],
        ),
        (
            "Local inside alone is refused",
            "ClusterIP 80/TCP cluster=10.96.0.20 internal-policy=Local".to_owned(),
            &[],
        ),
        (
            "another proxy's",
            format!("NodePort 80/TCP@30080 {both} proxy-name=other"),
            &[],
        ),
        (
            "all at once",
            format!(
                "LoadBalancer 80/TCP@30080 {both} lb=fd00:30::200 ranges=10.0.0.0/8 external-policy=Local internal-policy=Local"
            ),
            &[
                OpenRanges(V6),
                OpenNodePorts(V6),
                InternalLeavesNode,
                ExternalLeavesNode,
            ],
        ),
    ];
    for (what, service, expected) in rows {
        let service = format!("service web {service}");
        assert_eq!(told(LAX, &service), expected, "{what}");
        assert_eq!(told("", &service), [], "{what}, under daymark's own rules");
    }
}

#[test]
fn a_laxity_names_the_field_and_the_remedy() {
    let service = "service web LoadBalancer 80/TCP@30080 cluster=10.96.0.20,fd00:10:96::20 lb=fd00:30::200 ranges=10.0.0.0/8 \
                   external-policy=Local internal-policy=Local";
    let words: Vec<String> = told(LAX, service).iter().map(ToString::to_string).collect();
    let wanted = [
        (
            "spec.loadBalancerSourceRanges names no IPv6 prefix",
            "--choice ranges-of-one-family=closed",
        ),
        (
            "spec.ports[].nodePort is served at every IPv6 address",
            "name one there",
        ),
        (
            "spec.internalTrafficPolicy is Local",
            "--choice without-local=drop",
        ),
        (
            "spec.externalTrafficPolicy is Local",
            "--choice without-local=drop",
        ),
    ];
    assert_eq!(words.len(), wanted.len());
    for (text, (field, remedy)) in words.iter().zip(wanted) {
        assert!(text.starts_with(field) && text.contains(remedy), "{text}");
    }
    // One Event has room for all of them: 1,024 bytes, with the Service's name.
    assert!(
        words.iter().map(String::len).sum::<usize>() < 900,
        "{words:?}"
    );
}

#[test]
fn one_lax_setting_is_enough() {
    for word in [
        "unnamed-family=open",
        "ranges-of-one-family=open",
        "without-local=cluster",
    ] {
        let case = Case::parse("here", &format!("options {word}\n")).expect("a case");
        assert!(is_lax(&case.options), "{word}");
    }
    let case = Case::parse("here", "options unallocated=let-through\n").expect("a case");
    assert!(!is_lax(&case.options), "what is no Service's");
}

#[test]
fn every_mode_is_lax_and_daymark_is_not() {
    assert!(!is_lax(&Options::default()));
    assert_eq!(unowned(&Rules::default()), []);
    let names = |mode| -> Vec<&str> {
        unowned(&Rules::of_mode(mode))
            .iter()
            .map(|(name, _)| *name)
            .collect()
    };
    assert!(
        Mode::ALL
            .into_iter()
            .all(|mode| is_lax(&Options::of_mode(mode)))
    );
    assert_eq!(names(Mode::Iptables), ["unknown-ports", "unallocated"]);
    assert_eq!(names(Mode::Ipvs), ["unallocated", "invalid"]);
    assert_eq!(names(Mode::Nftables), ["unknown-ports", "invalid"]);
}

/// The same place under rules that let nothing of this pass.
fn strict(here: &Here) -> Here {
    let mut strict = here.clone();
    strict.options.rules.unnamed_family = UnnamedFamily::Closed;
    strict.options.rules.ranges_of_one_family = Gap::Closed;
    strict.options.rules.without_local = WithoutLocal::Drop;
    strict
}

/// What a Service asks for, and where its node ports would answer.
fn all(service: &Service, slices: &[&Arc<Slice>], here: &Here) -> (Wishes, Vec<std::net::IpAddr>) {
    let wishes = desire(service, slices, here);
    let mut at = here.node_port_addresses();
    let has_node_port = |ip: &std::net::IpAddr| {
        let of_family = |key: &daymark_model::FrontendKey| matches!(key, daymark_model::FrontendKey::NodePort { family, .. } if *family == daymark_model::Family::of(*ip));
        wishes.frontends.iter().any(|(key, _)| of_family(key))
    };
    at.retain(has_node_port);
    (wishes, at)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_service_of_which_nothing_is_told_is_served_as_under_daymarks_own_rules(seed in any::<u64>(), changes in proptest::collection::vec(any::<u64>(), 1..40)) {
        let mut options = random::options(&mut Random::new(seed));
        options.rules.unnamed_family = UnnamedFamily::Open;
        options.rules.ranges_of_one_family = Gap::Open;
        options.rules.without_local = WithoutLocal::Cluster;
        let mut world = World::new(options);
        world.apply(changes.iter().map(|seed| random::change(*seed)).collect::<Vec<Change>>());
        let here = strict(world.here());
        for (key, service) in &world.inputs().services {
            let slices: Vec<&Arc<Slice>> = world.slices_of(key).collect();
            prop_assert_eq!(&laxities(service, &here), &[]);
            if laxities(service, world.here()).is_empty() {
                // `internalTrafficPolicy: Local` of a Service inside alone: a refusal in place of a drop.
                let (mut lax, mut own) = (all(service, &slices, world.here()), all(service, &slices, &here));
                for wishes in [&mut lax.0, &mut own.0] {
                    for (_, frontend) in &mut wishes.frontends {
                        refusals_are_alike(frontend);
                    }
                }
                prop_assert_eq!(lax, own);
            }
        }
    }
}

fn refusals_are_alike(frontend: &mut Arc<daymark_model::Frontend>) {
    use daymark_model::Action::{Drop, Reject};
    let mut copy = (**frontend).clone();
    for action in [&mut copy.inside, &mut copy.outside] {
        if let Reject(reason) = *action {
            *action = Drop(reason);
        }
    }
    *frontend = Arc::new(copy);
}
