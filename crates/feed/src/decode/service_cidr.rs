//! ServiceCIDRs.
//!
//! One that is being deleted still counts: addresses of it are in use, and none is given any more.

use std::sync::Arc;

use daymark_model::{Cidr, ServiceCidr};
use serde::Deserialize;

use super::meta::Metadata;
use super::value::{List, Part, Shape, Text};
use super::{Json, Reader, Record};
use crate::record::ObjectKey;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServiceCidrJson<'a> {
    #[serde(borrow)]
    metadata: Part<Metadata<'a>>,
    #[serde(borrow)]
    spec: Part<Spec<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec<'a> {
    #[serde(borrow)]
    cidrs: List<Text<'a>>,
}

impl Shape for ServiceCidrJson<'_> {}
impl Shape for Spec<'_> {}

impl<'a> Json<'a> for ServiceCidrJson<'a> {
    fn metadata(&self) -> &Metadata<'a> {
        &self.metadata
    }

    fn record(&self, key: &ObjectKey, reader: &mut Reader<'_, '_>) -> Option<Record> {
        let list = reader.part("spec.cidrs", &self.spec.cidrs);
        let mut cidrs = Vec::with_capacity(list.len());
        for (index, text) in list.iter().enumerate() {
            match Cidr::parse(text.text()) {
                Some(cidr) => cidrs.push(cidr),
                None => {
                    let why = format!("{:?} is not an address range; it is left out", text.text());
                    reader.refuse(format!("spec.cidrs[{index}]"), why);
                }
            }
        }
        Some(Record::ServiceCidr(Arc::new(ServiceCidr {
            name: Arc::clone(&key.name),
            cidrs,
        })))
    }
}
