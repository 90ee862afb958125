//! Objects, as scenarios name them.

use std::fmt;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its word: `service`.
    pub word: &'static str,
    /// The path of its group and version.
    group: &'static str,
    /// The path's last word.
    plural: &'static str,
    /// Whom its objects belong to.
    pub scope: Scope,
}

/// Whom an object belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole cluster.
    Cluster,
    /// A namespace.
    Namespace,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, where it has one.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Kind {
    /// Finds a kind by its word.
    ///
    /// # Errors
    /// The kinds there are.
    pub fn find(word: &str) -> Result<Self, String> {
        let found = KINDS.iter().find(|kind| kind.word == word);
        found.copied().ok_or_else(|| {
            let known: Vec<_> = KINDS.iter().map(|kind| kind.word).collect();
            format!("{word:?} is no kind: {}", known.join(", "))
        })
    }
}

impl Kind {
    /// Where the API has the objects of this kind, of this namespace if they have one.
    #[must_use]
    pub fn folder(&self, namespace: &str) -> String {
        let Self { group, plural, .. } = self;
        match self.scope {
            Scope::Cluster => format!("{group}/{plural}"),
            Scope::Namespace => format!("{group}/namespaces/{namespace}/{plural}"),
        }
    }
}

impl Object {
    /// Reads `KIND/NAME`.
    ///
    /// # Errors
    /// What would be right.
    pub fn read(text: &str, namespace: &str) -> Result<Self, String> {
        let (kind, name) = text
            .split_once('/')
            .filter(|(_, name)| !name.is_empty())
            .ok_or_else(|| format!("{text:?} is no object: write KIND/NAME"))?;
        Ok(Self {
            kind: Kind::find(kind)?,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Where the API has it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.kind.folder(&self.namespace), self.name)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.word, self.name)
    }
}

const fn kind(word: &'static str, group: &'static str, plural: &'static str, scope: Scope) -> Kind {
    Kind {
        word,
        group,
        plural,
        scope,
    }
}

const CORE: &str = "/api/v1";
const DISCOVERY: &str = "/apis/discovery.k8s.io/v1";
const NETWORKING: &str = "/apis/networking.k8s.io/v1";
const KINDS: [Kind; 9] = [
    kind("service", CORE, "services", Scope::Namespace),
    kind("pod", CORE, "pods", Scope::Namespace),
    kind("endpoints", CORE, "endpoints", Scope::Namespace),
    kind(
        "endpointslice",
        DISCOVERY,
        "endpointslices",
        Scope::Namespace,
    ),
    kind("configmap", CORE, "configmaps", Scope::Namespace),
    kind("node", CORE, "nodes", Scope::Cluster),
    kind("namespace", CORE, "namespaces", Scope::Cluster),
    kind("servicecidr", NETWORKING, "servicecidrs", Scope::Cluster),
    kind("ipaddress", NETWORKING, "ipaddresses", Scope::Cluster),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_where_the_api_has_them() {
        for (text, path) in [
            ("service/web", "/api/v1/namespaces/shop/services/web"),
            ("node/node-1", "/api/v1/nodes/node-1"),
            (
                "endpointslice/a.b",
                "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/a.b",
            ),
            (
                "ipaddress/10.96.0.1",
                "/apis/networking.k8s.io/v1/ipaddresses/10.96.0.1",
            ),
        ] {
            assert_eq!(Object::read(text, "shop").unwrap().path(), path);
        }
        assert_eq!(
            Object::read("service", "shop").unwrap_err(),
            "\"service\" is no object: write KIND/NAME"
        );
        let error = Object::read("secret/x", "shop").unwrap_err();
        assert!(
            error.starts_with("\"secret\" is no kind: service, pod,"),
            "{error}"
        );
    }
}
