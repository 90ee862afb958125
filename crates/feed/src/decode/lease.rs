//! Node Leases.

use std::sync::Arc;

use serde::Deserialize;

use super::meta::Metadata;
use super::value::{Number, Part, Read, Shape, Text};
use super::{Json, Reader, Record, micros};
use crate::record::{Lease, ObjectKey};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeaseJson<'a> {
    #[serde(borrow)]
    metadata: Part<Metadata<'a>>,
    #[serde(borrow)]
    spec: Part<Spec<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow)]
    holder_identity: Text<'a>,
    #[serde(borrow)]
    renew_time: Text<'a>,
    lease_duration_seconds: Number,
}

impl Shape for LeaseJson<'_> {}
impl Shape for Spec<'_> {}

impl<'a> Json<'a> for LeaseJson<'a> {
    fn metadata(&self) -> &Metadata<'a> {
        &self.metadata
    }

    fn record(&self, key: &ObjectKey, reader: &mut Reader<'_, '_>) -> Option<Record> {
        let renewed = micros(&self.spec.renew_time);
        if renewed.is_none() && !self.spec.renew_time.is_absent() {
            let why = format!(
                "{:?} is not an RFC 3339 time; it is left out",
                self.spec.renew_time.text()
            );
            reader.refuse("spec.renewTime", why);
        }
        let seconds = match self.spec.lease_duration_seconds {
            Read::Value(seconds) => u32::try_from(seconds).ok(),
            Read::Absent | Read::Unreadable => None,
        };
        let holder = reader.share(self.spec.holder_identity.text());
        Some(Record::Lease(Arc::new(Lease {
            node: Arc::clone(&key.name),
            holder,
            renewed,
            seconds,
        })))
    }
}
