//! What a URL's path is about.

use super::query::{Plus, decode};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/version`
    Version,
    /// `/healthz`, `/livez`: the process answers. `/readyz`: it takes writes, too.
    Health(Probe),
    /// `/metrics`
    Metrics,
    /// `/api`: the versions of the core group.
    CoreVersions,
    /// `/apis`: all groups.
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/v1` or `/apis/GROUP/VERSION`: the resources.
    Resources { group: String, version: String },
    /// `/openapi/v2`, which is not served, but asked for by kubectl.
    OpenApi2,
    /// `/openapi/v3`
    OpenApi,
    /// `/openapi/v3/api/v1` and the like: the path behind `/openapi/v3/`.
    OpenApiDocument(String),
    /// A resource, an object, or a part of one.
    Resource(Target),
    /// Nothing that is served.
    Unknown,
}

/// A health endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    Live,
    Ready,
}

/// A resource, an object, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// API group; empty for core.
    pub(crate) group: String,
    /// API version.
    pub(crate) version: String,
    /// Plural name.
    pub(crate) resource: String,
    /// Empty when the path names none.
    pub(crate) namespace: String,
    /// Empty for a collection.
    pub(crate) name: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
}

/// Parses a path.
pub(crate) fn route(path: &str) -> Route {
    let parts: Vec<String> = path
        .split('/')
        .filter(|part| !part.is_empty())
        .map(|part| decode(part, Plus::Itself))
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["version"] => Route::Version,
        ["healthz" | "livez", ..] => Route::Health(Probe::Live),
        ["readyz", ..] => Route::Health(Probe::Ready),
        ["metrics"] => Route::Metrics,
        ["api"] => Route::CoreVersions,
        ["apis"] => Route::Groups,
        ["apis", group] => Route::Group((*group).to_owned()),
        ["api", version] => Route::Resources {
            group: String::new(),
            version: (*version).to_owned(),
        },
        ["apis", group, version] => Route::Resources {
            group: (*group).to_owned(),
            version: (*version).to_owned(),
        },
        ["openapi", "v2"] => Route::OpenApi2,
        ["openapi", "v3"] => Route::OpenApi,
        ["openapi", "v3", rest @ ..] => Route::OpenApiDocument(rest.join("/")),
        ["api", version, rest @ ..] => target("", version, rest),
        ["apis", group, version, rest @ ..] => target(group, version, rest),
        _ => Route::Unknown,
    }
}

/// `namespaces/NS/services/...` is in a namespace; `namespaces/NS`, `namespaces/NS/status` and
/// `namespaces/NS/finalize` are the namespace itself.
fn target(group: &str, version: &str, rest: &[&str]) -> Route {
    let (namespace, rest) = match rest {
        ["namespaces", _, "status" | "finalize"] => ("", rest),
        ["namespaces", namespace, inner @ ..] if !inner.is_empty() => (*namespace, inner),
        rest => ("", rest),
    };
    let (resource, name, subresource) = match rest {
        [resource] => (*resource, "", String::new()),
        [resource, name] => (*resource, *name, String::new()),
        [resource, name, subresource @ ..] => (*resource, *name, subresource.join("/")),
        [] => return Route::Unknown,
    };
    Route::Resource(Target {
        group: group.to_owned(),
        version: version.to_owned(),
        resource: resource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource,
    })
}

#[cfg(test)]
mod tests {
    use super::{Route, route};

    #[test]
    fn paths_are_taken_apart() {
        let rows = [
            ("/api/v1/services", ["", "v1", "services", "", "", ""]),
            ("/api/v1/namespaces", ["", "v1", "namespaces", "", "", ""]),
            (
                "/api/v1/namespaces/a",
                ["", "v1", "namespaces", "", "a", ""],
            ),
            (
                "/api/v1/namespaces/a/status",
                ["", "v1", "namespaces", "", "a", "status"],
            ),
            (
                "/api/v1/namespaces/a/finalize",
                ["", "v1", "namespaces", "", "a", "finalize"],
            ),
            ("/api/v1/namespaces/a/pods", ["", "v1", "pods", "a", "", ""]),
            (
                "/api/v1/namespaces/a/pods/b/status",
                ["", "v1", "pods", "a", "b", "status"],
            ),
            ("/api/v1/nodes/n%2F1", ["", "v1", "nodes", "", "n/1", ""]),
            (
                "/api/v1/namespaces/a/pods/b/proxy/x/y",
                ["", "v1", "pods", "a", "b", "proxy/x/y"],
            ),
            (
                "/apis/discovery.k8s.io/v1/namespaces/a/endpointslices",
                ["discovery.k8s.io", "v1", "endpointslices", "a", "", ""],
            ),
        ];
        for (path, expected) in rows {
            let Route::Resource(found) = route(path) else {
                panic!("{path}: {:?}", route(path))
            };
            let parts = [
                found.group,
                found.version,
                found.resource,
                found.namespace,
                found.name,
                found.subresource,
            ];
            assert_eq!(parts, expected, "{path}");
        }
    }

    #[test]
    fn other_paths_are_told_apart() {
        assert_eq!(route("/"), Route::Unknown);
        assert_eq!(route("/apis/"), Route::Groups);
        assert_eq!(
            route("/api/v1"),
            Route::Resources {
                group: String::new(),
                version: "v1".to_owned()
            }
        );
        assert_eq!(
            route("/openapi/v3/apis/a/v1"),
            Route::OpenApiDocument("apis/a/v1".to_owned())
        );
        assert_eq!(route("/openapi/v2"), Route::OpenApi2);
    }
}
