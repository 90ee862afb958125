//! The kinds that the API serves, by discovery.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DynamicObject};
use kube::discovery::{ApiResource, Discovery, Scope, verbs};
use kube::{Client, Resource};

/// One kind.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    /// How to ask for it.
    pub(crate) resource: ApiResource,
    /// Whether its objects have a namespace.
    pub(crate) scope: Scope,
}

impl Kind {
    /// The objects of that namespace (empty: of a kind without namespaces).
    pub(crate) fn api(&self, client: &Client, namespace: &str) -> Api<DynamicObject> {
        match self.scope {
            Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &self.resource),
            Scope::Cluster => Api::all_with(client.clone(), &self.resource),
        }
    }
}

/// All kinds that can be listed, watched and deleted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kinds(Vec<Kind>);

impl Kinds {
    /// Asks the server.
    ///
    /// # Errors
    /// Whatever discovery answered.
    pub(crate) async fn discover(client: &Client) -> Result<Self, kube::Error> {
        let discovery = Discovery::new(client.clone()).run().await?;
        let mut kinds = Vec::new();
        for group in discovery.groups_alphabetical() {
            for (resource, capabilities) in group.recommended_resources() {
                let needed = [verbs::LIST, verbs::WATCH, verbs::DELETE];
                if needed
                    .iter()
                    .all(|verb| capabilities.supports_operation(verb))
                {
                    kinds.push(Kind {
                        resource,
                        scope: capabilities.scope,
                    });
                }
            }
        }
        Ok(Self(kinds))
    }

    /// All of them, with their index.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, &Kind)> {
        self.0.iter().enumerate()
    }

    /// One by index.
    pub(crate) fn get(&self, index: usize) -> Option<&Kind> {
        self.0.get(index)
    }

    /// The index of a kind that this crate has a type for.
    pub(crate) fn of<K: Resource<DynamicType = ()>>(&self) -> Option<usize> {
        self.0.iter().position(|kind| {
            kind.resource.kind == K::kind(&()) && kind.resource.group == K::group(&())
        })
    }

    /// The kind of an owner, whatever version the reference names.
    pub(crate) fn of_owner(&self, owner: &OwnerReference) -> Option<&Kind> {
        let group = owner
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        self.0
            .iter()
            .find(|kind| kind.resource.kind == owner.kind && kind.resource.group == group)
    }
}
