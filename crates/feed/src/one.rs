//! One object of the API as the change that a watch would make of it.

use daymark_model::Change;

use crate::config::{Kind, Nodes};
use crate::decode::{self, Context, Meaning, Record};
use crate::intern::Interner;

/// What an object comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The change of the model's inputs; none if the object is nothing to it.
    pub change: Option<Change>,
    /// Values of the object that could not be used, each with its field.
    pub left_out: Vec<String>,
}

/// Reads a Service, an EndpointSlice or a Node as JSON, just as a watch does. A Node is read as the agent's own.
///
/// # Errors
/// In words, if the JSON is no object of the kind.
pub fn decode(kind: Kind, json: &[u8], node: &str) -> Result<Decoded, String> {
    let mut names = Interner::default();
    let nodes = Nodes::Own(node.into());
    let mut context = Context {
        kind,
        nodes: &nodes,
        names: &mut names,
    };
    let object = decode::item(json, &mut context).map_err(|status| status.message)?;
    let left_out = object.reasons.iter().map(ToString::to_string).collect();
    let change = match object.meaning {
        Meaning::Unreadable => return Err(format!("this is no {kind}")),
        Meaning::Record(Record::Service(service)) => {
            Some(Change::Service(service.key.clone(), Some(service)))
        }
        Meaning::Record(Record::Slice(slice, _)) => {
            Some(Change::Slice(slice.key.clone(), Some(slice)))
        }
        Meaning::Record(Record::Node(node)) => node.own.map(|own| Change::Node(Some(own))),
        Meaning::Record(_) | Meaning::Nothing => None,
    };
    Ok(Decoded { change, left_out })
}

#[cfg(test)]
mod tests {
    use daymark_model::Change;

    use super::{Kind, decode};

    #[test]
    fn an_object_is_read_as_a_watch_reads_it() {
        let json = br#"{"metadata":{"name":"web","namespace":"shop"},
            "spec":{"type":"ClusterIP","clusterIPs":["10.96.0.7","nonsense"],"ports":[{"port":80}]}}"#;
        let decoded = decode(Kind::Service, json, "node-1").unwrap();
        let Some(Change::Service(key, Some(service))) = decoded.change else {
            panic!("{decoded:?}");
        };
        assert_eq!(key.to_string(), "shop/web");
        assert_eq!(service.ports[0].port, 80);
        assert!(
            decoded.left_out[0].contains("nonsense"),
            "{:?}",
            decoded.left_out
        );
    }

    #[test]
    fn other_nodes_are_nothing_to_a_node() {
        let json = br#"{"metadata":{"name":"node-2"},"spec":{},"status":{}}"#;
        assert_eq!(decode(Kind::Node, json, "node-1").unwrap().change, None);
        assert!(decode(Kind::Node, json, "node-2").unwrap().change.is_some());
    }
}
