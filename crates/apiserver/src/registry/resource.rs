//! One row for each served resource: its names, its scope and what may be done to it.

/// Whether objects of a resource live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Objects have no namespace.
    Cluster,
    /// Every object lives in one namespace.
    Namespaced,
}

/// A served resource, as discovery describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version, such as `v1`.
    pub version: &'static str,
    /// Kind, such as `Service`.
    pub kind: &'static str,
    /// Plural name in lower case, as in URLs.
    pub plural: &'static str,
    /// Singular name in lower case.
    pub singular: &'static str,
    /// Short names that kubectl accepts.
    pub short_names: &'static [&'static str],
    /// Categories, such as `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub scope: Scope,
    /// Subresources by name, such as `status`.
    pub subresources: &'static [&'static str],
    /// The store's kind: `services`, or `discovery.k8s.io/endpointslices`. Two resources that are
    /// views of the same objects (Events) name the same one.
    pub store_kind: &'static str,
}

impl Resource {
    /// `v1` or `group/version`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The resource in upstream's messages: `services`, or `endpointslices.discovery.k8s.io`.
    pub fn qualified(&self) -> String {
        qualify(self.plural, self.group)
    }

    /// The kind in upstream's messages: `Service`, or `EndpointSlice.discovery.k8s.io`.
    pub fn qualified_kind(&self) -> String {
        qualify(self.kind, self.group)
    }

    /// Whether objects of this resource live in a namespace.
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether the resource serves the named subresource.
    pub fn serves(&self, subresource: &str) -> bool {
        self.subresources.contains(&subresource)
    }
}

fn qualify(name: &str, group: &str) -> String {
    match group {
        "" => name.to_owned(),
        group => format!("{name}.{group}"),
    }
}
