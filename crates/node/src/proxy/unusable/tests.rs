use daymark_case::Case;
use daymark_feed::{Reason, Whose};

use super::*;

fn findings(service: Option<&str>, values: &[&str]) -> Option<Arc<Findings>> {
    let reason = |value: &&str| Reason {
        field: "f".to_owned(),
        why: format!("{value} is odd"),
    };
    let shown: Vec<_> = values.iter().take(Findings::SHOWN).map(reason).collect();
    Some(Arc::new(Findings {
        whose: Whose {
            uid: "u".into(),
            service: service.map(Into::into),
        },
        more: values.len() - shown.len(),
        shown: shown.into(),
    }))
}

fn key(name: &str) -> ObjectKey {
    ObjectKey {
        namespace: "default".into(),
        name: name.into(),
    }
}

fn world() -> World {
    let text = "service web ClusterIP 80/TCP cluster=10.96.0.20\n\
                service theirs ClusterIP 80/TCP cluster=10.96.0.21 proxy-name=other\n";
    let case = Case::parse("here", text).unwrap();
    let mut world = World::new(daymark_model::Options {
        node_name: "node-1".into(),
        ..case.options.clone()
    });
    world.apply(case.steps[0].changes.iter().cloned());
    world
}

/// What is said, as `ABOUT: MESSAGE` without the remedy.
fn said(unusable: &mut Unusable, world: &World) -> Vec<String> {
    let notices = unusable.follow(world);
    let shown = notices.iter().map(|notice| {
        assert_eq!(
            (notice.severity, notice.reason),
            (Severity::Warning, "UnusableValue")
        );
        let words = notice.message.split(". Everything").next().unwrap();
        format!("{}: {words}", notice.about)
    });
    shown.collect()
}

#[test]
fn a_service_is_told_of_its_own_values_and_its_slices_once_in_words_that_do_not_depend_on_the_order()
 {
    let world = world();
    let own = || (Kind::Service, key("web"), findings(None, &["a"]));
    let slice = |name: &str, value| {
        (
            Kind::EndpointSlice,
            key(name),
            findings(Some("web"), &[value]),
        )
    };
    let all = || [own(), slice("web-1", "b"), slice("web-2", "c")];
    let expected = "default/web: f: a is odd; EndpointSlice web-1: f: b is odd; EndpointSlice web-2: f: c is odd";
    let mut one_by_one = Unusable::default();
    let mut last = Vec::new();
    for (kind, key, now) in all().into_iter().rev() {
        one_by_one.note(kind, key, now);
        last = said(&mut one_by_one, &world);
    }
    assert_eq!(last, [expected]);
    let mut at_once = Unusable::default();
    all()
        .into_iter()
        .for_each(|(kind, key, now)| at_once.note(kind, key, now));
    assert_eq!(said(&mut at_once, &world), [expected]);
    // The same again is no news; what is mended is told no more, and again when it is back.
    let (kind, web, now) = own();
    at_once.note(kind, web, now);
    assert_eq!(said(&mut at_once, &world), [""; 0]);
    for name in ["web-1", "web-2"] {
        at_once.note(Kind::EndpointSlice, key(name), None);
    }
    assert_eq!(said(&mut at_once, &world), ["default/web: f: a is odd"]);
    let web = About::from(ServiceKey::new("default", "web"));
    assert!(at_once.concerns(&web));
    at_once.note(Kind::Service, key("web"), None);
    assert!(!at_once.concerns(&web));
    assert_eq!(said(&mut at_once, &world), [""; 0]);
    assert_eq!((at_once.len(), at_once.said.len()), (0, 0));
    let (kind, web, now) = own();
    at_once.note(kind, web, now);
    assert_eq!(said(&mut at_once, &world), ["default/web: f: a is odd"]);
}

#[test]
fn a_thousand_hostile_values_are_one_message_that_the_api_takes_with_the_remedy() {
    let world = world();
    let long = "x".repeat(400);
    let values: Vec<&str> = (0..100).map(|_| long.as_str()).collect();
    let mut unusable = Unusable::default();
    for number in 0..10 {
        let slice = key(&format!("web-{number}"));
        unusable.note(Kind::EndpointSlice, slice, findings(Some("web"), &values));
    }
    let [notice] = <[Notice; 1]>::try_from(unusable.follow(&world)).unwrap();
    assert!(notice.message.len() <= 1024, "{}", notice.message.len());
    assert!(notice.message.contains("; and 999 more: see"));
    assert!(
        notice
            .message
            .ends_with("(label endpointslice.kubernetes.io/managed-by)")
    );
}

#[test]
fn what_no_service_of_this_node_has_is_told_on_the_object_or_not_at_all() {
    let world = world();
    let mut unusable = Unusable::default();
    let rows = [
        (Kind::EndpointSlice, key("gone-1"), Some("gone")),
        (Kind::EndpointSlice, key("theirs-1"), Some("theirs")),
        (Kind::Service, key("unreadable"), None),
        (Kind::ServiceCidr, cluster_wide("range"), None),
        (Kind::Node, cluster_wide("node-1"), None),
        (Kind::Node, cluster_wide("node-2"), None),
        (Kind::Pool, key("pool"), None),
    ];
    for (kind, key, service) in rows {
        unusable.note(kind, key, findings(service, &["a"]));
    }
    let notices = unusable.follow(&world);
    let about = notices.iter().map(|notice| {
        let About::Object(kind, key) = &notice.about else {
            panic!("{notice:?}")
        };
        let object = unusable.reference(*kind, key).unwrap();
        let [version, uid] = [object.api_version, object.uid].map(Option::unwrap_or_default);
        let scope = notice.scope;
        format!(
            "{version} {} {uid} {:?} {scope:?}",
            notice.about, object.namespace
        )
    });
    assert_eq!(
        about.collect::<Vec<_>>(),
        [
            "discovery.k8s.io/v1 EndpointSlice default/gone-1 u Some(\"default\") Cluster",
            "v1 Service default/unreadable u Some(\"default\") Cluster",
            "v1 Node node-1 node-1 None Node",
            "networking.k8s.io/v1 ServiceCIDR range u None Cluster",
        ]
    );
    let rows = unusable.rows();
    let rows = rows.iter().map(|row| format!("{} {}", row.kind, row.name));
    let rows: Vec<String> = rows.collect();
    assert_eq!((rows.len(), unusable.len()), (6, 6));
    assert_eq!(rows[1], "EndpointSlice default/theirs-1");
    unusable.note(Kind::ServiceCidr, cluster_wide("range"), None);
    assert_eq!(
        unusable.reference(Kind::ServiceCidr, &cluster_wide("range")),
        None
    );
}

fn cluster_wide(name: &str) -> ObjectKey {
    ObjectKey {
        namespace: "".into(),
        name: name.into(),
    }
}
