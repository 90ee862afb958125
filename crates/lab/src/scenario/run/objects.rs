//! Steps that read and write objects.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use super::refer::at;
use super::{Performance, StepError, until};
use crate::cluster::{CreateError, create_all_in};
use crate::scenario::{Action, Kind, Name, NewPod, Object, PodNetwork, PodReadiness, Wanted};

impl Performance<'_> {
    /// The steps that the API may refuse.
    pub(super) async fn write(&self, action: &Action) -> Result<(), StepError> {
        let client = self.client().await?;
        match action {
            Action::Apply(manifest) => {
                let text = self.refer(&self.manifest(manifest)?).await?;
                create_all_in(&client, &text, self.namespace).await?;
            }
            Action::Pod(pod) => {
                create_all_in(&client, &self::pod(pod).to_string(), self.namespace).await?;
            }
            Action::Patch {
                object,
                subresource,
                patch,
            } => {
                let text = self.refer(patch).await?;
                self.patch(&client, object, subresource.as_deref(), &text)
                    .await?;
            }
            Action::Delete { object, grace } => Self::delete(&client, object, *grace).await?,
            _ => unreachable!("the parser lets no other step be refused"),
        }
        Ok(())
    }

    pub(super) async fn refused(&self, says: &str, action: &Action) -> Result<String, StepError> {
        let found = match self.write(action).await {
            Ok(()) => "it was done".to_owned(),
            Err(
                StepError::Create(CreateError::Refused { message, .. })
                | StepError::Refused { message, .. },
            ) => {
                if message.contains(says) {
                    return Ok(message);
                }
                format!("the API says: {message}")
            }
            Err(other) => return Err(other),
        };
        Err(StepError::NotRefused {
            says: says.to_owned(),
            found,
        })
    }

    async fn patch(
        &self,
        client: &Client,
        object: &Object,
        subresource: Option<&str>,
        patch: &str,
    ) -> Result<(), StepError> {
        let bad = |error: String| StepError::File(format!("{patch}: {error}"));
        let patch: Value = serde_saphyr::from_str(patch).map_err(|error| bad(error.to_string()))?;
        let below = subresource
            .map(|name| format!("/{name}"))
            .unwrap_or_default();
        let uri = format!("{}{below}?fieldValidation=Strict", object.path());
        let request = http::Request::patch(uri)
            .header("content-type", "application/merge-patch+json")
            .body(patch.to_string().into_bytes());
        send(client, object, request).await
    }

    async fn delete(client: &Client, object: &Object, grace: Option<u32>) -> Result<(), StepError> {
        let options = match grace {
            None => json!({}),
            Some(seconds) => json!({"gracePeriodSeconds": seconds}),
        };
        let request = http::Request::delete(object.path())
            .header("content-type", "application/json")
            .body(options.to_string().into_bytes());
        send(client, object, request).await
    }

    pub(super) async fn delete_every(&self, kind: Kind, selector: &str) -> Result<(), StepError> {
        let query = url_encoded(selector);
        let folder = kind.folder(self.namespace);
        let request = http::Request::delete(format!("{folder}?labelSelector={query}"));
        let object = Object {
            kind,
            namespace: self.namespace.to_owned(),
            name: selector.to_owned(),
        };
        send(&self.client().await?, &object, request.body(Vec::new())).await
    }

    /// An object as the API has it; the error says what is missing.
    pub(super) async fn get(client: &Client, object: &Object) -> Result<Value, String> {
        let request = http::Request::get(object.path()).body(Vec::new());
        let request = request.map_err(|error| error.to_string())?;
        let answer = client.request::<Value>(request).await;
        answer.map_err(|error| error.to_string())
    }

    pub(super) async fn expect_field(
        &self,
        object: &Object,
        path: &str,
        wanted: &Wanted,
        within: Duration,
    ) -> Result<(), StepError> {
        let client = self.client().await?;
        until(within, || async {
            let value = Self::get(&client, object).await?;
            let found = at(&value, path);
            let holds = match wanted {
                Wanted::Present => found.is_some(),
                Wanted::Absent => found.is_none(),
                Wanted::Equal(wanted) => found == Some(wanted),
            };
            if holds {
                return Ok(());
            }
            let found = found.map_or_else(|| "absent".to_owned(), Value::to_string);
            Err(format!("{path} is {found}"))
        })
        .await
    }

    pub(super) async fn expect_endpoints(
        &self,
        service: &Name,
        wanted: &BTreeSet<String>,
        within: Duration,
    ) -> Result<(), StepError> {
        let (slices, of_service) = self.slices(service).await?;
        until(within, || async {
            let list = slices.list(&of_service).await;
            let list = list.map_err(|error| error.to_string())?;
            let found: BTreeSet<String> = list.iter().flat_map(ready_endpoints).collect();
            if found == *wanted {
                return Ok(());
            }
            let found: Vec<String> = found.into_iter().collect();
            Err(format!("they are {}", found.join(",")))
        })
        .await
    }

    pub(super) async fn expect_slices(
        &self,
        service: &Name,
        count: usize,
        within: Duration,
    ) -> Result<(), StepError> {
        let (slices, of_service) = self.slices(service).await?;
        until(within, || async {
            let list = slices.list(&of_service).await;
            match list.map_err(|error| error.to_string())?.items.len() {
                found if found == count => Ok(()),
                found => Err(format!("there are {found}")),
            }
        })
        .await
    }

    pub(super) async fn expect_events(
        &self,
        service: &Name,
        reason: &str,
        count: usize,
        within: Duration,
    ) -> Result<(), StepError> {
        let events: Api<Event> = Api::namespaced(self.client().await?, &service.namespace);
        let is_meant = |event: &&Event| {
            let about = &event.involved_object;
            let about = (about.kind.as_deref(), about.name.as_deref());
            about == (Some("Service"), Some(&service.name))
                && event.reason.as_deref() == Some(reason)
        };
        until(within, || async {
            let list = events.list(&ListParams::default()).await;
            let list = list.map_err(|error| error.to_string())?;
            match list.iter().filter(is_meant).count() {
                found if found == count => Ok(()),
                found => Err(format!("there are {found}")),
            }
        })
        .await
    }

    async fn slices(&self, service: &Name) -> Result<(Api<EndpointSlice>, ListParams), StepError> {
        let label = format!("kubernetes.io/service-name={}", service.name);
        Ok((
            Api::namespaced(self.client().await?, &service.namespace),
            ListParams::default().labels(&label),
        ))
    }

    pub(super) async fn wait_pods(&self, within: Duration) -> Result<(), StepError> {
        let pods: Api<Pod> = Api::namespaced(self.client().await?, self.namespace);
        let all = ListParams::default();
        until(within, || async {
            let list = pods.list(&all).await.map_err(|error| error.to_string())?;
            let unready: Vec<_> = list
                .iter()
                .filter(|pod| !is_ready(pod))
                .filter_map(|pod| pod.metadata.name.clone())
                .collect();
            if unready.is_empty() {
                Ok(())
            } else {
                Err(format!("{} not ready", unready.join(", ")))
            }
        })
        .await
    }

    pub(super) async fn wait_api(&self, within: Duration) -> Result<(), StepError> {
        let client = self.client().await?;
        until(within, || async {
            let request = http::Request::get("/readyz").body(Vec::new());
            let request = request.map_err(|error| error.to_string())?;
            let answer = client.request_text(request).await;
            answer.map(drop).map_err(|error| error.to_string())
        })
        .await
    }

    pub(super) async fn wait_service(
        &self,
        name: &Name,
        within: Duration,
    ) -> Result<(), StepError> {
        let services: Api<Service> = Api::namespaced(self.client().await?, &name.namespace);
        until(within, || async {
            let service = services
                .get(&name.name)
                .await
                .map_err(|error| error.to_string())?;
            let wanted = service
                .spec
                .and_then(|spec| spec.ip_families)
                .map_or(1, |families| families.len());
            let balancer = service.status.and_then(|status| status.load_balancer);
            let given = balancer
                .and_then(|balancer| balancer.ingress)
                .map_or(0, |ingress| ingress.len());
            if given >= wanted {
                Ok(())
            } else {
                Err(format!("{given} of {wanted} addresses"))
            }
        })
        .await
    }

    pub(super) async fn wait_gone(
        &self,
        object: &Object,
        within: Duration,
    ) -> Result<(), StepError> {
        let client = self.client().await?;
        until(within, || async {
            let request = http::Request::get(object.path()).body(Vec::new());
            let request = request.map_err(|error| error.to_string())?;
            match client.request::<Value>(request).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(error.to_string()),
                Ok(_) => Err(format!("{object} is there")),
            }
        })
        .await
    }

    /// Makes the scenario's namespace.
    pub(super) async fn enter_namespace(&self) -> Result<(), StepError> {
        let namespaces: Api<Namespace> = Api::all(self.client().await?);
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(self.namespace.to_owned());
        let made = namespaces.create(&PostParams::default(), &namespace).await;
        made.map(drop).map_err(|error| Box::new(error).into())
    }

    /// Ends what the scenario left, at once; the namespace itself goes in its own time.
    pub(super) async fn leave_namespace(&self) -> Result<(), StepError> {
        let client = self.client().await?;
        let now = DeleteParams::default().grace_period(0);
        let all = ListParams::default();
        let services: Api<Service> = Api::namespaced(client.clone(), self.namespace);
        let pods: Api<Pod> = Api::namespaced(client.clone(), self.namespace);
        services
            .delete_collection(&DeleteParams::default(), &all)
            .await
            .map_err(Box::new)?;
        pods.delete_collection(&now, &all).await.map_err(Box::new)?;
        let namespaces: Api<Namespace> = Api::all(client);
        let gone = namespaces
            .delete(self.namespace, &DeleteParams::default())
            .await;
        gone.map(drop).map_err(|error| Box::new(error).into())
    }
}

/// A selector in a query: `=`, `,` and the like are no part of its grammar.
fn url_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

async fn send(
    client: &Client,
    object: &Object,
    request: http::Result<http::Request<Vec<u8>>>,
) -> Result<(), StepError> {
    let refused = |message: String| StepError::Refused {
        object: object.to_string(),
        message,
    };
    let request = request.map_err(|error| refused(error.to_string()))?;
    match client.request::<Value>(request).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(refused(status.message)),
        Err(other) => Err(Box::new(other).into()),
    }
}

/// A Pod in many words.
fn pod(pod: &NewPod) -> Value {
    let ports: Vec<Value> = pod
        .ports
        .iter()
        .map(|port| json!({"containerPort": port}))
        .collect();
    let first = pod.ports.first().copied().unwrap_or(8080);
    let mut container = json!({"name": "echo", "image": "daymark", "ports": ports});
    match pod.readiness {
        PodReadiness::AtOnce => {}
        PodReadiness::Probed => {
            container["readinessProbe"] =
                json!({"httpGet": {"path": "/healthz", "port": first}, "failureThreshold": 1});
        }
        PodReadiness::Never => {
            container["readinessProbe"] =
                json!({"exec": {"command": ["false"]}, "failureThreshold": 1});
        }
    }
    let mut spec = json!({"hostNetwork": pod.network == PodNetwork::Host});
    if let Some(seconds) = pod.lingers {
        container["lifecycle"] = json!({"preStop": {"sleep": {"seconds": seconds}}});
        spec["terminationGracePeriodSeconds"] = json!(seconds + 5);
    }
    if let Some(node) = &pod.node {
        spec["nodeName"] = json!(node);
    }
    spec["containers"] = json!([container]);
    let labels: serde_json::Map<String, Value> = pod
        .labels
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "labels": labels,
            "annotations": {"lab.daymark.dev/readiness-period": "200ms"},
        },
        "spec": spec,
    })
}

/// `POD:PORT` of every ready endpoint of a slice.
fn ready_endpoints(slice: &EndpointSlice) -> Vec<String> {
    let mut all = Vec::new();
    for endpoint in slice.endpoints.iter().flatten() {
        let conditions = endpoint.conditions.as_ref();
        if conditions.and_then(|conditions| conditions.ready) == Some(false) {
            continue;
        }
        let pod = endpoint
            .target_ref
            .as_ref()
            .and_then(|pod| pod.name.clone());
        let name = pod.or_else(|| endpoint.addresses.first().cloned());
        for port in slice.ports.iter().flatten() {
            let (Some(name), Some(port)) = (&name, port.port) else {
                continue;
            };
            all.push(format!("{name}:{port}"));
        }
    }
    all
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
