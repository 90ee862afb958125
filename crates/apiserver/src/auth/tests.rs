use http::Method;

use super::{Attributes, Name, allow, verb};
use crate::http::{Query, Route, route};
use crate::registry::User;
use crate::server::{ApiServer, Config};

fn check(server: &ApiServer, user: &str, groups: &[&str], request: &str) -> Result<(), String> {
    let user = User {
        name: user.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    let (method, url) = request.split_once(' ').unwrap();
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let Route::Resource(target) = route(path) else {
        panic!("{path} is no resource")
    };
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let verb = verb(&method, &target, &Query::parse(query)).unwrap();
    allow(
        &user,
        &Attributes {
            verb,
            target: &target,
            name: Name::in_path(verb, &target),
        },
        &server.inner,
    )
    .map_err(|status| status.message)
}

#[test]
fn each_group_may_do_what_its_row_says() {
    let server = ApiServer::open(Config::default()).unwrap();
    let rows = [
        (
            "system:masters",
            "DELETE /api/v1/namespaces/a/secrets/b",
            true,
        ),
        (
            "daymark:controllers",
            "PUT /api/v1/namespaces/a/services/b/status",
            true,
        ),
        ("daymark:viewers", "GET /api/v1/services?watch=true", true),
        ("daymark:viewers", "GET /api/v1/secrets", false),
        (
            "daymark:viewers",
            "POST /api/v1/namespaces/a/services",
            false,
        ),
        (
            "daymark:agents",
            "GET /apis/discovery.k8s.io/v1/endpointslices",
            true,
        ),
        ("daymark:agents", "GET /api/v1/services?watch=true", true),
        (
            "daymark:agents",
            "GET /api/v1/namespaces/a/services/b",
            false,
        ),
        ("daymark:agents", "GET /api/v1/pods", false),
        ("daymark:agents", "POST /api/v1/namespaces/a/events", true),
        ("system:nodes", "GET /api/v1/pods", true),
        ("system:nodes", "PATCH /api/v1/nodes/n1/status", true),
        ("system:nodes", "PATCH /api/v1/nodes/n2/status", false),
        (
            "system:nodes",
            "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1",
            true,
        ),
        (
            "system:nodes",
            "PUT /apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n2",
            false,
        ),
        (
            "system:nodes",
            "PUT /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/n1",
            false,
        ),
        (
            "system:nodes",
            "DELETE /api/v1/namespaces/a/services/b",
            false,
        ),
        ("nobody", "GET /api/v1/services", false),
    ];
    for (group, request, allowed) in rows {
        let result = check(&server, "system:node:n1", &[group], request);
        assert_eq!(result.is_ok(), allowed, "{group}: {request}: {result:?}");
    }
}

#[test]
fn a_refusal_has_upstreams_words() {
    let server = ApiServer::open(Config::default()).unwrap();
    let refused = |request| check(&server, "u", &[], request).unwrap_err();
    assert_eq!(
        refused("GET /api/v1/namespaces/x/services"),
        "services is forbidden: User \"u\" cannot list resource \"services\" in API group \"\" in the namespace \"x\""
    );
    assert_eq!(
        refused("PATCH /api/v1/nodes/n1/status"),
        "nodes \"n1\" is forbidden: User \"u\" cannot patch resource \"nodes/status\" in API group \"\" at the \
         cluster scope"
    );
    let nodes = |request| check(&server, "system:node:n1", &["system:nodes"], request);
    assert_eq!(
        nodes("PATCH /api/v1/nodes/n2/status").unwrap_err(),
        "nodes \"n2\" is forbidden: User \"system:node:n1\" cannot patch resource \"nodes/status\" in API group \"\" at \
         the cluster scope: it may do that to \"n1\" only"
    );
}
