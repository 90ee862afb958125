//! One page of a list.

use daymark_store::{HistoryError, Snapshot, Store};

use super::token::Token;
use super::{ListOptions, VersionMatch};
use crate::object::Object;
use crate::registry::Resource;
use crate::status::Status;

/// One page.
pub(crate) struct Page {
    /// The version of the whole list.
    pub(crate) revision: u64,
    /// The objects in key order, as they are stored.
    pub(crate) objects: Vec<Object>,
    /// The token of the next page.
    pub(crate) continue_token: Option<String>,
    /// How many objects are still to come, where that is known.
    pub(crate) remaining: Option<usize>,
}

/// Reads a page. Waiting for a version that does not exist yet is the caller's business.
pub(crate) fn list(
    store: &Store<Object>,
    resource: &Resource,
    namespace: Option<&str>,
    options: &ListOptions,
) -> Result<Page, Status> {
    let token = match &options.continue_token {
        Some(text) => Some(Token::decode(text).map_err(Status::bad_request)?),
        None => None,
    };
    let snapshot = snapshot(store, resource, options, token.as_ref())?;
    Ok(page(
        &snapshot,
        resource,
        namespace,
        options,
        token.as_ref(),
    ))
}

fn snapshot(
    store: &Store<Object>,
    resource: &Resource,
    options: &ListOptions,
    token: Option<&Token>,
) -> Result<Snapshot<Object>, Status> {
    let exact = match token {
        Some(token) => token.revision,
        None if options.version_match == VersionMatch::Exact => options.resource_version,
        None => None,
    };
    let Some(revision) = exact else {
        return Ok(store.snapshot());
    };
    store
        .snapshot_of_kind_at(resource.store_kind, revision)
        .map_err(|error| match (error, token) {
            (HistoryError::Future { current }, _) => Status::version_too_large(revision, current),
            (HistoryError::Compacted { .. }, Some(token)) => expired_token(token),
            (HistoryError::Compacted { floor }, None) => Status::expired(format!(
                "The resourceVersion for the provided list is too old: {revision} ({floor})"
            )),
        })
}

/// Upstream's way out for long lists: a token that goes on at the newest version, at the price of consistency.
fn expired_token(token: &Token) -> Status {
    let inconsistent = Token {
        revision: None,
        ..token.clone()
    };
    Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    )
    .continuing(inconsistent.encode())
}

fn page(
    snapshot: &Snapshot<Object>,
    resource: &Resource,
    namespace: Option<&str>,
    options: &ListOptions,
    token: Option<&Token>,
) -> Page {
    let after = token.map(|token| (token.namespace.as_str(), token.name.as_str()));
    let filter = &options.filter;
    let limit = match options.resource_version {
        Some(0) if token.is_none() => None,
        _ => options.limit,
    };
    let mut rest = snapshot
        .range(resource.store_kind, namespace, after)
        .filter(|(_, entry)| filter.is_empty() || filter.matches(entry.value.value()));
    let mut objects = Vec::new();
    let mut last = None;
    for (key, entry) in rest.by_ref().take(limit.unwrap_or(usize::MAX)) {
        objects.push(Object::clone(&entry.value));
        last = Some(key);
    }
    // One look behind the page says whether there is another one.
    let more = rest.next().is_some();
    let remaining = (more && filter.is_empty()).then(|| 1 + rest.count());
    let revision = snapshot.revision();
    let continue_token = last.filter(|_| more).map(|key| {
        Token {
            revision: Some(revision),
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
        }
        .encode()
    });
    Page {
        revision,
        objects,
        continue_token,
        remaining,
    }
}
