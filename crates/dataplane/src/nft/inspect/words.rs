//! What elements and chains do for packets, in words.

use std::collections::BTreeMap;

use daymark_model::desired::List;
use daymark_netlink::nft::{Data, Name, SetElem, Value, Verdict};

use super::asking::slot_backend;
use crate::nft::layout::{FrontendValue, Words, address, backend_of, flag, set};
use crate::nft::plan::{Checked, Fate, Plan};

/// What an element does for packets.
pub(super) fn meaning(
    words: &Words,
    name: &str,
    elem: &SetElem,
    plans: &BTreeMap<u32, Name>,
) -> String {
    let ip = || address(elem.key.get(..words.len as usize).unwrap_or_default());
    let ip = || ip().map_or_else(String::new, |ip| ip.to_string());
    let word = |index| elem.key.host_word(index).unwrap_or_default();
    match name {
        set::PLANS => match &elem.value {
            Value::Verdict(Verdict::Jump(chain)) => format!("plan {}: chain {chain}", word(0)),
            _ => format!("plan {}", word(0)),
        },
        set::SLOTS => {
            let backend = slot_backend(words, elem).map(|backend| backend.to_string());
            let backend = backend.unwrap_or_default();
            format!("pool {}, slot {}: {backend}", word(0), word(1))
        }
        set::MEMBERS => {
            let backend = backend_of(words, &Data::new(elem.key.get(4..).unwrap_or_default()));
            let backend = backend.map(|backend| backend.to_string());
            format!("pool {} has {}", word(0), backend.unwrap_or_default())
        }
        _ if set::RANGES.contains(&name) => range_in_words(words, elem),
        set::SERVICE_ADDRESSES => format!("unknown ports of {} are refused", ip()),
        set::NODE_PORT_ADDRESSES => format!("node ports answer at {}", ip()),
        set::LOCAL_BACKENDS => format!("{} may reach itself", ip()),
        _ => match &elem.value {
            Value::Data(data) => value_in_words(data, plans),
            _ => String::new(),
        },
    }
}

fn range_in_words(words: &Words, elem: &SetElem) -> String {
    let ip = |key: &Data| {
        let start = key.len().saturating_sub(words.len as usize);
        address(&key[start..]).map_or_else(String::new, |ip| ip.to_string())
    };
    let last = elem.key_end().unwrap_or(&elem.key);
    format!("{} to {} may come", ip(&elem.key), ip(last))
}

/// A frontend's value.
fn value_in_words(data: &Data, plans: &BTreeMap<u32, Name>) -> String {
    let Some(value) = FrontendValue::decode(data) else {
        return "not of this layout".to_owned();
    };
    let plan = |number: u32| {
        let chain = plans.get(&number).map(|chain| format!(" ({chain})"));
        format!("plan {number}{}", chain.unwrap_or_default())
    };
    let mut said = if value.inside == value.outside {
        plan(value.inside)
    } else {
        let (inside, outside) = (plan(value.inside), plan(value.outside));
        format!("inside {inside}, outside {outside}")
    };
    said += &format!(", port number {}, pool {}", value.port, value.pool);
    let kinds = flag::MASQUERADE
        .into_iter()
        .zip(["the node", "own Pods", "outside"]);
    let kinds = kinds.filter(|(bit, _)| value.flags & bit != 0);
    let taken: Vec<&str> = kinds.map(|(_, kind)| kind).collect();
    if !taken.is_empty() {
        said += &format!(", masquerades {}", taken.join(", "));
    }
    if value.flags & flag::REFUSE != 0 {
        said += ", refuses";
    }
    if value.flags & flag::REFUSE_LOOPBACK != 0 {
        said += ", refuses on loopback";
    }
    said
}

pub(super) fn plan_in_words(chain: &str) -> String {
    let Some(plan) = Plan::of_chain(chain) else {
        return String::new();
    };
    let checked = match plan.sources {
        Checked::Yes => "clients of its ranges alone; ",
        Checked::No => "",
    };
    let fate = match plan.fate {
        Fate::Refuse => "refused".to_owned(),
        Fate::Drop => "dropped".to_owned(),
        Fate::Spread {
            list,
            slots,
            sticky,
        } => {
            let list = match list {
                List::Cluster => "",
                List::Local => " of this node",
            };
            let kept = sticky.map(|s| format!(", clients keep theirs for {s} s"));
            let slots = match slots {
                1 => "to the only slot".to_owned(),
                _ => format!("to one of {slots} slots"),
            };
            format!("{slots}{list}{}", kept.unwrap_or_default())
        }
    };
    format!("{checked}{fate}")
}
