//! A request on a resource: reads, writes, and where each verb goes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use daymark_store::SubmitError;
use http::{HeaderMap, Response, StatusCode};

use super::reply::{Shown, json_reply, success};
use super::{Query, Target, input, negotiate, watch};
use crate::auth::{self, ApiVerb, Attributes, Name};
use crate::clock;
use crate::json;
use crate::object::encode;
use crate::patch::Patch;
use crate::read::{self, ListOptions, Page, Use};
use crate::registry::decode::decode;
use crate::registry::kinds::{Kind, NAMESPACE, POD, SERVICE};
use crate::registry::write::{Action, Answer, Outcome, Request, plan};
use crate::registry::{DryRun, Entry, FieldValidation, Subresource, User};
use crate::server::Server;
use crate::status::Status;

/// How long a read waits for a version that does not exist yet, as upstream.
const FUTURE_WAIT: Duration = Duration::from_secs(3);

/// A request on a served kind, with its rights checked.
pub(super) struct Call {
    pub(super) server: Arc<Server>,
    pub(super) user: User,
    pub(super) verb: ApiVerb,
    pub(super) headers: HeaderMap,
    pub(super) query: Query,
    pub(super) target: Target,
    /// The place of the kind in the registry.
    pub(super) entry: usize,
}

impl Call {
    /// Runs it.
    pub(super) async fn run(self, body: Body) -> Result<Response<Body>, Status> {
        let subresource = self.subresource()?;
        self.check_place()?;
        match self.verb {
            ApiVerb::Get => self.get(),
            ApiVerb::List => self.list().await,
            ApiVerb::Watch => self.watch().await,
            ApiVerb::Create
            | ApiVerb::Update
            | ApiVerb::Patch
            | ApiVerb::Delete
            | ApiVerb::DeleteCollection => self.write(subresource, body).await,
        }
    }

    fn entry(&self) -> &Entry {
        &self.server.registry.entries()[self.entry]
    }

    fn kind(&self) -> &'static Kind {
        self.entry().kind
    }

    fn subresource(&self) -> Result<Subresource, Status> {
        let resource = &self.kind().resource;
        let wanted = self.target.subresource.as_str();
        match wanted {
            "" => Ok(Subresource::Main),
            "status" if resource.serves("status") => Ok(Subresource::Status),
            "finalize" if resource.serves("finalize") => Ok(Subresource::Finalize),
            other => Err(not_served(resource.plural, other)),
        }
    }

    /// The path must fit the kind's scope, and the verb what the path names.
    fn check_place(&self) -> Result<(), Status> {
        let resource = &self.kind().resource;
        let Target {
            namespace,
            name,
            subresource,
            ..
        } = &self.target;
        if !resource.is_namespaced() && !namespace.is_empty() {
            return Err(Status::unknown_path());
        }
        let needs_namespace =
            resource.is_namespaced() && (!name.is_empty() || self.verb == ApiVerb::Create);
        if needs_namespace && namespace.is_empty() {
            return Err(Status::bad_request(format!(
                "an empty namespace may not be set for {}",
                resource.plural
            )));
        }
        let allowed = match self.verb {
            ApiVerb::Create => name.is_empty(),
            ApiVerb::Delete => subresource.is_empty(),
            ApiVerb::Patch | ApiVerb::Update => !name.is_empty(),
            ApiVerb::Get | ApiVerb::List | ApiVerb::Watch | ApiVerb::DeleteCollection => true,
        };
        match allowed {
            true => Ok(()),
            false => Err(Status::method_not_allowed(
                "the server does not allow this method on the requested resource",
            )),
        }
    }

    fn namespace(&self) -> Option<&str> {
        Some(self.target.namespace.as_str()).filter(|namespace| !namespace.is_empty())
    }

    fn shown(&self) -> Result<Shown, Status> {
        let representation = negotiate::representation(&self.headers, &self.query)?;
        Ok(Shown {
            kind: self.kind(),
            representation,
            now: clock::now(),
        })
    }

    fn get(&self) -> Result<Response<Body>, Status> {
        let shown = self.shown()?;
        let Target {
            namespace, name, ..
        } = &self.target;
        let resource = &self.kind().resource;
        let key = daymark_store::Key::new(resource.store_kind, namespace.as_str(), name.as_str());
        let snapshot = self.server.store.snapshot();
        let entry = snapshot
            .get(&key)
            .ok_or_else(|| Status::not_found(resource, name))?;
        Ok(json_reply(StatusCode::OK, shown.object(&entry.value), &[]))
    }

    async fn list(&self) -> Result<Response<Body>, Status> {
        let shown = self.shown()?;
        let options = ListOptions::parse(self.kind(), &self.query, Use::List)?;
        if let Some(revision) = options.resource_version {
            self.server.wait_for(revision, FUTURE_WAIT).await?;
        }
        let page = read::list(
            &self.server.store,
            &self.kind().resource,
            self.namespace(),
            &options,
        )?;
        Ok(json_reply(StatusCode::OK, shown.list(&page), &[]))
    }

    async fn watch(&self) -> Result<Response<Body>, Status> {
        let shown = self.shown()?;
        let options = ListOptions::parse(self.kind(), &self.query, Use::Watch)?;
        let namespace = self.target.namespace.clone();
        watch::respond(&self.server, shown, namespace, options)
    }

    async fn write(&self, subresource: Subresource, body: Body) -> Result<Response<Body>, Status> {
        let shown = self.shown()?;
        let bytes = input::bytes(body).await?;
        let options = match self.verb {
            ApiVerb::Delete | ApiVerb::DeleteCollection => {
                input::delete_body(&self.headers, &bytes)?
            }
            _ => None,
        };
        let validation = input::field_validation(self.verb, &self.query)?;
        let request = Request {
            user: self.user.clone(),
            namespace: self.target.namespace.clone(),
            name: self.target.name.clone(),
            subresource,
            dry_run: input::dry_run(self.verb, &self.query, options.as_ref())?,
            field_validation: validation,
            now: clock::now(),
            seed: rand::random(),
        };
        let action = self.action(&bytes, options.as_ref(), validation)?;
        if let Action::Create(decoded) = &action {
            self.may_create(json::name(&decoded.object))?;
        }
        let answer = submit(&self.server, self.entry, request, action).await?;
        Ok(self.reply(&shown, &answer))
    }

    /// Rights to single objects, now that the name is known.
    fn may_create(&self, name: &str) -> Result<(), Status> {
        let asked = Attributes {
            verb: self.verb,
            target: &self.target,
            name: Name::Known(name),
        };
        auth::allow(&self.user, &asked, &self.server)
    }

    fn action(
        &self,
        bytes: &[u8],
        options: Option<&serde_json::Value>,
        validation: FieldValidation,
    ) -> Result<Action, Status> {
        let object = || {
            decode(
                self.kind(),
                input::object(&self.headers, bytes)?,
                validation,
            )
        };
        match self.verb {
            ApiVerb::Create => Ok(Action::Create(object()?)),
            ApiVerb::Update => Ok(Action::Replace(object()?)),
            ApiVerb::Patch => {
                let kind = negotiate::patch_type(&self.headers)?;
                Ok(Action::Patch(Patch::parse(kind, input::patch(bytes)?)?))
            }
            ApiVerb::Delete => Ok(Action::Delete(input::delete_options(&self.query, options)?)),
            ApiVerb::DeleteCollection => {
                let filter = ListOptions::parse(self.kind(), &self.query, Use::List)?.filter;
                Ok(Action::DeleteCollection(
                    input::delete_options(&self.query, options)?,
                    filter,
                ))
            }
            ApiVerb::Get | ApiVerb::List | ApiVerb::Watch => unreachable!("reads write nothing"),
        }
    }

    fn reply(&self, shown: &Shown, answer: &Answer) -> Response<Body> {
        let warnings = &answer.warnings;
        match &answer.outcome {
            Outcome::Created(object) => {
                json_reply(StatusCode::CREATED, shown.object(object), warnings)
            }
            Outcome::Updated(object) | Outcome::Deleting(object) => {
                json_reply(StatusCode::OK, shown.object(object), warnings)
            }
            Outcome::Deleted(object)
                if self.verb != ApiVerb::Delete || returns_object(self.kind()) =>
            {
                json_reply(StatusCode::OK, shown.object(object), warnings)
            }
            Outcome::Deleted(object) => json_reply(
                StatusCode::OK,
                encode(&success(self.kind(), object)),
                warnings,
            ),
            Outcome::DeletedCollection(objects) => {
                let revision = self.server.store.revision();
                let page = Page {
                    revision,
                    objects: objects.clone(),
                    continue_token: None,
                    remaining: None,
                };
                json_reply(StatusCode::OK, shown.list(&page), warnings)
            }
        }
    }
}

/// Whether a delete answers with the object instead of a Status.
fn returns_object(kind: &Kind) -> bool {
    [&POD, &SERVICE, &NAMESPACE]
        .iter()
        .any(|other| std::ptr::eq(*other, kind))
}

/// Runs a write: on the store's writer thread, or, as a dry run, on a snapshot and without a trace.
async fn submit(
    server: &Arc<Server>,
    entry: usize,
    request: Request,
    action: Action,
) -> Result<Answer, Status> {
    if request.dry_run == DryRun::All {
        let snapshot = server.store.snapshot();
        let entry = &server.registry.entries()[entry];
        return Ok(plan(entry, &request, &action, &snapshot, snapshot.revision())?.answer);
    }
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let registry = Arc::clone(&server.registry);
    server.store.submit(
        move |snapshot, revision| {
            plan(
                &registry.entries()[entry],
                &request,
                &action,
                snapshot,
                revision,
            )
        },
        // Nobody may be waiting any more: the write stands all the same.
        move |result| drop(sender.send(result)),
    );
    match receiver.await {
        Ok(Ok(committed)) => Ok(committed.answer),
        Ok(Err(SubmitError::Refused(status))) => Err(status),
        Ok(Err(SubmitError::Unavailable(why))) => Err(Status::unavailable(why)),
        Err(_) => Err(Status::unavailable("the store is closing")),
    }
}

/// A subresource that real clusters have, and this server has not.
fn not_served(resource: &str, subresource: &str) -> Status {
    let first = subresource.split('/').next().unwrap_or_default();
    Status::unserved_subresource(resource, first)
}
