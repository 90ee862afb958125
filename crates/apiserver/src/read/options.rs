//! The query of a list or a watch.

use std::time::Duration;

use super::Filter;
use crate::http::Query;
use crate::registry::kinds::Kind;
use crate::selector::{FieldSelector, LabelSelector};
use crate::status::{Cause, CauseReason, Status};

/// `metav1.ListOptions`, checked.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    /// Which objects.
    pub(crate) filter: Filter,
    /// `None` is unset: the most recent. 0 is any.
    pub(crate) resource_version: Option<u64>,
    /// How the version is meant.
    pub(crate) version_match: VersionMatch,
    /// Objects a page; `None` is all.
    pub(crate) limit: Option<usize>,
    /// The token of the page to go on with.
    pub(crate) continue_token: Option<String>,
    /// How long a watch runs, at most.
    pub(crate) timeout: Option<Duration>,
    /// Whether a watch may get bookmarks.
    pub(crate) bookmarks: Bookmarks,
    /// Whether a watch begins with the present state and a bookmark at its end.
    pub(crate) initial_events: InitialEvents,
}

/// How a list's resourceVersion is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    /// As new as that, or newer.
    NotOlderThan,
    /// Exactly that.
    Exact,
}

/// Whether a watch gets bookmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bookmarks {
    Wanted,
    Unwanted,
}

/// What a watch begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InitialEvents {
    /// Decided by the version: none, or the present state when the version is unset or 0.
    ByVersion,
    /// WatchList: the present state, then the annotated bookmark.
    Sent,
    /// Only what comes after the version.
    Suppressed,
}

/// The use of the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    List,
    Watch,
}

impl ListOptions {
    /// Reads the query of a request on a kind.
    pub(crate) fn parse(kind: &Kind, query: &Query, usage: Use) -> Result<Self, Status> {
        let labels =
            LabelSelector::parse(query.get("labelSelector")).map_err(Status::bad_request)?;
        let fields = FieldSelector::parse(query.get("fieldSelector"), kind.fields)
            .map_err(Status::bad_request)?;
        check_match(query, usage)?;
        let limit = query.number("limit")?.filter(|limit| *limit > 0);
        let initial = match query.flag("sendInitialEvents")? {
            None => InitialEvents::ByVersion,
            Some(true) => InitialEvents::Sent,
            Some(false) => InitialEvents::Suppressed,
        };
        Ok(Self {
            filter: Filter { labels, fields },
            resource_version: version(query)?,
            version_match: match query.get("resourceVersionMatch") {
                "Exact" => VersionMatch::Exact,
                _ => VersionMatch::NotOlderThan,
            },
            limit: limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            continue_token: Some(query.get("continue").to_owned())
                .filter(|token| !token.is_empty()),
            timeout: query
                .number("timeoutSeconds")?
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            bookmarks: match query.flag("allowWatchBookmarks")? {
                Some(true) => Bookmarks::Wanted,
                _ => Bookmarks::Unwanted,
            },
            initial_events: initial,
        })
    }
}

fn version(query: &Query) -> Result<Option<u64>, Status> {
    match query.get("resourceVersion") {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!(
                "Invalid value: {text:?}: resourceVersion must be a number that a list gave"
            ))
        }),
    }
}

/// The combinations that make no sense, as `ValidateListOptions` of
/// `k8s.io/apimachinery/pkg/apis/meta/internalversion/validation` refuses them.
fn check_match(query: &Query, usage: Use) -> Result<(), Status> {
    let (version, matching) = (
        query.get("resourceVersion"),
        query.get("resourceVersionMatch"),
    );
    let initial = !query.get("sendInitialEvents").is_empty();
    let mut causes = Vec::new();
    let mut forbid = |field: &str, why: &str| causes.push(forbidden(field, why));
    if initial && usage == Use::List {
        forbid(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        );
    }
    if initial && matching.is_empty() {
        forbid(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        );
    }
    if !matching.is_empty() && !initial {
        if usage == Use::Watch {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        } else if version.is_empty() {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if !query.get("continue").is_empty() {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            );
        }
        if matching == "Exact" && version == "0" {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
            );
        }
    }
    let known: &[&str] = if initial {
        &["NotOlderThan"]
    } else {
        &["NotOlderThan", "Exact"]
    };
    if !matching.is_empty() && !known.contains(&matching) {
        causes.push(unsupported(matching, known));
    }
    match causes.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid_kind("ListOptions.meta.k8s.io", "", causes)),
    }
}

fn forbidden(field: &str, why: &str) -> Cause {
    Cause {
        reason: CauseReason::Forbidden,
        field: field.to_owned(),
        message: format!("Forbidden: {why}"),
    }
}

fn unsupported(value: &str, known: &[&str]) -> Cause {
    let known: Vec<String> = known.iter().map(|known| format!("{known:?}")).collect();
    Cause {
        reason: CauseReason::NotSupported,
        field: "resourceVersionMatch".to_owned(),
        message: format!(
            "Unsupported value: {value:?}: supported values: {}",
            known.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{ListOptions, Use};
    use crate::http::Query;
    use crate::registry::kinds::SERVICE;

    #[test]
    fn senseless_combinations_are_refused_with_the_right_code() {
        use Use::{List, Watch};
        let rows = [
            (List, "", 200),
            (List, "resourceVersion=5&resourceVersionMatch=Exact", 200),
            (List, "resourceVersionMatch=Exact", 422),
            (List, "resourceVersion=0&resourceVersionMatch=Exact", 422),
            (
                List,
                "resourceVersion=5&resourceVersionMatch=NotOlderThan&continue=x",
                422,
            ),
            (List, "resourceVersion=5&resourceVersionMatch=Newest", 422),
            (
                List,
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
                422,
            ),
            (
                Watch,
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
                200,
            ),
            (Watch, "sendInitialEvents=true", 422),
            (
                Watch,
                "sendInitialEvents=true&resourceVersionMatch=Exact",
                422,
            ),
            (
                Watch,
                "resourceVersion=5&resourceVersionMatch=NotOlderThan",
                422,
            ),
            (List, "resourceVersion=abc", 400),
            (List, "limit=many", 400),
            (List, "labelSelector=a+in", 400),
            (List, "fieldSelector=spec.foo%3D1", 400),
        ];
        for (usage, query, code) in rows {
            let result = ListOptions::parse(&SERVICE, &Query::parse(query), usage);
            assert_eq!(
                result.map_or_else(|status| status.code, |_| 200),
                code,
                "{usage:?} {query}"
            );
        }
    }
}
