//! What an API server's audit log says that somebody asked for, and whether that was granted.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

/// What a request asks for, as RBAC sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// `list`, `watch`, `create` ...
    pub verb: String,
    /// `RESOURCE` or `RESOURCE/SUBRESOURCE`, or the path of what is no resource.
    pub resource: String,
    /// The API group; empty for the core, and for what is no resource.
    pub group: String,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        match self.group.as_str() {
            "" => Ok(()),
            group => write!(f, ".{group}"),
        }
    }
}

/// Requests of one user, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Those that were let through, whatever became of them.
    pub granted: BTreeMap<Right, usize>,
    /// Those that were answered 403.
    pub refused: BTreeMap<Right, usize>,
}

impl Audit {
    /// Reads a log of one event a line (`audit.k8s.io/v1`, written by [`POLICY`]). Its last line may be half written.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(log: &Path, identity: &str) -> io::Result<Self> {
        let mut audit = Self::default();
        for line in BufReader::new(std::fs::File::open(log)?).lines() {
            if let Ok(event) = serde_json::from_str::<Event>(&line?)
                && event.user.username == identity
            {
                audit.add(event);
            }
        }
        Ok(audit)
    }

    fn add(&mut self, event: Event) {
        let object = event.object_ref.unwrap_or_default();
        let resource = match (object.resource, object.subresource) {
            (None, _) => event.request_uri,
            (Some(resource), None) => resource,
            (Some(resource), Some(below)) => format!("{resource}/{below}"),
        };
        let right = Right {
            verb: event.verb,
            resource,
            group: object.api_group.unwrap_or_default(),
        };
        let refused = event
            .response_status
            .is_some_and(|status| status.code == Some(FORBIDDEN));
        let counted = if refused {
            &mut self.refused
        } else {
            &mut self.granted
        };
        *counted.entry(right).or_default() += 1;
    }
}

/// Who asked for what, of the ServiceAccounts alone: a line when an answer begins or is over, nothing of its contents.
pub(super) const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: [\"system:serviceaccounts\"]
  - level: None
";

const FORBIDDEN: u16 = 403;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: Who,
    object_ref: Option<Object>,
    response_status: Option<Status>,
}

#[derive(Deserialize)]
struct Who {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    resource: Option<String>,
    subresource: Option<String>,
    api_group: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    code: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kube-apiserver 1.37 writes them, shortened.
    const LOG: &str = r#"{"kind":"Event","stage":"ResponseStarted","requestURI":"/api/v1/services?watch=true","verb":"watch","user":{"username":"agent"},"objectRef":{"resource":"services","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200}}
{"kind":"Event","stage":"ResponseComplete","requestURI":"/api/v1/services?watch=true","verb":"watch","user":{"username":"agent"},"objectRef":{"resource":"services","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200}}
{"kind":"Event","stage":"ResponseComplete","requestURI":"/apis/x/v1/a","verb":"patch","user":{"username":"agent"},"objectRef":{"resource":"as","subresource":"status","apiGroup":"x"},"responseStatus":{"status":"Failure","code":403}}
{"kind":"Event","stage":"ResponseComplete","requestURI":"/version","verb":"get","user":{"username":"agent"},"responseStatus":{"code":404}}
{"kind":"Event","stage":"ResponseComplete","requestURI":"/api/v1/nodes","verb":"list","user":{"username":"other"},"objectRef":{"resource":"nodes"},"responseStatus":{"code":403}}
{"kind":"Event","sta"#;

    #[test]
    fn what_one_user_was_granted_and_refused_is_told_apart() {
        let file = std::env::temp_dir().join(format!("daymark-audit-{}.log", std::process::id()));
        std::fs::write(&file, LOG).unwrap();
        let audit = Audit::read(&file, "agent").unwrap();
        std::fs::remove_file(file).unwrap();
        let shown = |rights: &BTreeMap<Right, usize>| {
            let lines = rights
                .iter()
                .map(|(right, count)| format!("{count} {right}"));
            lines.collect::<Vec<_>>()
        };
        assert_eq!(
            shown(&audit.granted),
            ["1 get /version", "2 watch services"]
        );
        assert_eq!(shown(&audit.refused), ["1 patch as/status.x"]);
    }
}
