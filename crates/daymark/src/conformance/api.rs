//! Writing a cluster's state to the API, object by object.

use anyhow::Context;
use daymark_model::{Change, Node, Service, ServiceKey, Slice, SliceKey};
use http::{Method, StatusCode};
use kube::Client;
use serde_json::Value;

use super::objects;

/// The objects that are there, through a client with all rights.
pub(crate) struct Writer {
    client: Client,
    services: Vec<ServiceKey>,
    slices: Vec<SliceKey>,
}

impl Writer {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            services: Vec::new(),
            slices: Vec::new(),
        }
    }

    /// Carries changes out, Services before slices.
    pub(crate) async fn apply(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        for change in changes {
            match change {
                Change::Service(key, Some(service)) => self.put_service(key, service).await?,
                Change::Service(key, None) => self.remove_service(key).await?,
                Change::Slice(key, Some(slice)) => self.put_slice(key, slice).await?,
                Change::Slice(key, None) => self.remove_slice(key).await?,
                Change::Node(Some(node)) => self.put_node(node).await?,
                // The lab's interfaces are what they are; other kinds are not drawn.
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes every Service and slice that was written.
    pub(crate) async fn clear(&mut self) -> anyhow::Result<()> {
        for key in self.services.clone() {
            self.remove_service(&key).await?;
        }
        for key in self.slices.clone() {
            self.remove_slice(&key).await?;
        }
        Ok(())
    }

    /// Makes a namespace, if it is not there.
    pub(crate) async fn namespace(&self, name: &str) -> anyhow::Result<()> {
        let object = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.create("/api/v1/namespaces", name, &object).await
    }

    pub(crate) async fn put_node(&self, node: &Node) -> anyhow::Result<()> {
        self.create("/api/v1/nodes", &node.name, &objects::node(node))
            .await?;
        let status = format!("/api/v1/nodes/{}/status", node.name);
        self.merge(&status, &objects::node_addresses(node)).await
    }

    pub(crate) async fn put_service(
        &mut self,
        key: &ServiceKey,
        service: &Service,
    ) -> anyhow::Result<()> {
        let all = format!("/api/v1/namespaces/{}/services", key.namespace);
        let object = objects::service(service);
        // A living Service cannot, for one, get a node port that another of its ports holds.
        if self.write(&all, &key.name, &object).await.is_err() {
            self.remove_service(key).await?;
            self.write(&all, &key.name, &object).await?;
        }
        let status = format!("{all}/{}/status", key.name);
        self.merge(&status, &objects::load_balancer(service))
            .await?;
        if !self.services.contains(key) {
            self.services.push(key.clone());
        }
        Ok(())
    }

    async fn remove_service(&mut self, key: &ServiceKey) -> anyhow::Result<()> {
        let path = format!("/api/v1/namespaces/{}/services/{}", key.namespace, key.name);
        self.services.retain(|known| known != key);
        self.delete(&path).await
    }

    pub(crate) async fn put_slice(&mut self, key: &SliceKey, slice: &Slice) -> anyhow::Result<()> {
        let all = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
            key.namespace
        );
        self.write(&all, &key.name, &objects::slice(slice)).await?;
        if !self.slices.contains(key) {
            self.slices.push(key.clone());
        }
        Ok(())
    }

    async fn remove_slice(&mut self, key: &SliceKey) -> anyhow::Result<()> {
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/{}",
            key.namespace, key.name
        );
        self.slices.retain(|known| known != key);
        self.delete(&path).await
    }

    /// Replaces the object, or creates it.
    async fn write(&self, all: &str, name: &str, object: &Value) -> anyhow::Result<()> {
        let one = format!("{all}/{name}");
        match self.send(Method::PUT, &one, JSON, Some(object)).await {
            Err(kube::Error::Api(status)) if status.code == StatusCode::NOT_FOUND.as_u16() => {
                let made = self.send(Method::POST, all, JSON, Some(object)).await;
                made.with_context(|| format!("creating {one}: {object}"))
            }
            other => other.with_context(|| format!("replacing {one}: {object}")),
        }
    }

    async fn create(&self, all: &str, name: &str, object: &Value) -> anyhow::Result<()> {
        match self.send(Method::POST, all, JSON, Some(object)).await {
            Err(kube::Error::Api(status)) if status.code == StatusCode::CONFLICT.as_u16() => Ok(()),
            other => other.with_context(|| format!("creating {all}/{name}")),
        }
    }

    async fn merge(&self, path: &str, patch: &Value) -> anyhow::Result<()> {
        let sent = self
            .send(
                Method::PATCH,
                path,
                "application/merge-patch+json",
                Some(patch),
            )
            .await;
        sent.with_context(|| format!("patching {path}: {patch}"))
    }

    async fn delete(&self, path: &str) -> anyhow::Result<()> {
        match self.send(Method::DELETE, path, JSON, None).await {
            Err(kube::Error::Api(status)) if status.code == StatusCode::NOT_FOUND.as_u16() => {
                Ok(())
            }
            other => other.with_context(|| format!("deleting {path}")),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> kube::Result<()> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, kind)
            .body(body.into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.client.request::<Value>(request).await.map(drop)
    }
}

const JSON: &str = "application/json";
