//! Why a Service does not get an address, in words that name the field and the remedy.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use daymark_feed::record::ObjectKey;
use daymark_model::{Family, ServiceKey};
use thiserror::Error;

use crate::reserved::Holder;

/// Why a Service does not get (one of) the addresses it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is no pool at all.
    #[error("there is no IPAddressPool: create one in the API group metallb.io/v1beta1")]
    NoPools,
    /// No pool gives addresses of the family by itself.
    #[error(
        "no IPAddressPool with autoAssign has {family} addresses: add some to spec.addresses of one, or remove \
         {family} from spec.ipFamilies of the Service"
    )]
    NoPoolOfFamily {
        /// The family that is asked for.
        family: Family,
    },
    /// Every address is given.
    #[error(
        "no free {family} address in IPAddressPool {}: add addresses to spec.addresses, or delete Services that \
         no longer need theirs",
        List(pools)
    )]
    Exhausted {
        /// The family that is asked for.
        family: Family,
        /// The pools that were tried.
        pools: Vec<ObjectKey>,
    },
    /// The annotation names a pool that does not exist.
    #[error(
        "annotation metallb.io/address-pool: there is no IPAddressPool {}: create it, or correct the annotation, which names one pool",
        Quoted(name)
    )]
    NoSuchPool {
        /// The name asked for.
        name: Arc<str>,
    },
    /// The pool asked for has no addresses of the family.
    #[error(
        "annotation metallb.io/address-pool: IPAddressPool {pool} has no {family} addresses: add some to \
         spec.addresses, or remove {family} from spec.ipFamilies of the Service"
    )]
    PoolLacksFamily {
        /// The pool asked for.
        pool: ObjectKey,
        /// The family that is asked for.
        family: Family,
    },
    /// The pool restricts itself by fields that this version does not know.
    #[error(
        "IPAddressPool {pool} sets {}, which daymark does not support yet, so nothing new is given from it: \
         remove the field from spec, or use another pool",
        Fields(fields)
    )]
    Unsupported {
        /// The pool.
        pool: ObjectKey,
        /// The names of the fields in `spec`.
        fields: Vec<Arc<str>>,
    },
    /// The address asked for is in no pool.
    #[error(
        "annotation metallb.io/loadBalancerIPs or spec.loadBalancerIP: {address} is in no IPAddressPool: ask for \
         another address, or add it to spec.addresses of a pool"
    )]
    OutsidePools {
        /// The address asked for.
        address: IpAddr,
    },
    /// What is asked for is no address.
    #[error(
        "annotation metallb.io/loadBalancerIPs or spec.loadBalancerIP: {} is not an IP address: correct it, or \
         remove it to get any free address",
        Quoted(text)
    )]
    Unreadable {
        /// What stands there.
        text: Arc<str>,
    },
    /// The address asked for is a Node's, a Pod's or a cluster IP.
    #[error(
        "annotation metallb.io/loadBalancerIPs or spec.loadBalancerIP: {address} is never given, because {holder}: \
         ask for another address"
    )]
    Reserved {
        /// The address asked for.
        address: IpAddr,
        /// Whose it is.
        holder: Holder,
    },
    /// The address asked for is not in the pool asked for.
    #[error(
        "annotations metallb.io/loadBalancerIPs and metallb.io/address-pool: {address} is in IPAddressPool {holds}, \
         not in {}: correct one of them",
        Quoted(wanted)
    )]
    OutsidePool {
        /// The address asked for.
        address: IpAddr,
        /// The name of the pool asked for.
        wanted: Arc<str>,
        /// The pool that holds the address.
        holds: ObjectKey,
    },
    /// Another Service has the address.
    #[error(
        "annotation metallb.io/loadBalancerIPs or spec.loadBalancerIP: {address} is taken by Service {by}: ask for \
         another address; sharing one is not supported yet"
    )]
    Taken {
        /// The address asked for.
        address: IpAddr,
        /// Who has it.
        by: ServiceKey,
    },
    /// The address asked for is not of the Service's families.
    #[error(
        "annotation metallb.io/loadBalancerIPs or spec.loadBalancerIP: {address} does not fit spec.ipFamilies {}: \
         ask for an address of that family, or change spec.ipFamilies and spec.ipFamilyPolicy",
        Families(families)
    )]
    WrongFamily {
        /// The address asked for.
        address: IpAddr,
        /// The families of the Service.
        families: Vec<Family>,
    },
    /// Two addresses of one family are asked for.
    #[error(
        "annotation metallb.io/loadBalancerIPs: {address} is the second address of its family: ask for one of each"
    )]
    SecondOfFamily {
        /// The address that is one too many.
        address: IpAddr,
    },
}

impl Refusal {
    /// The reason as one word, for conditions.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoPools => "NoPools",
            Self::NoPoolOfFamily { .. } => "NoPoolOfFamily",
            Self::Exhausted { .. } => "PoolExhausted",
            Self::NoSuchPool { .. } => "NoSuchPool",
            Self::PoolLacksFamily { .. } => "PoolLacksFamily",
            Self::Unsupported { .. } => "PoolUnsupported",
            Self::OutsidePools { .. } => "AddressOutsidePools",
            Self::OutsidePool { .. } => "AddressOutsidePool",
            Self::Unreadable { .. } => "AddressUnreadable",
            Self::Reserved { .. } => "AddressReserved",
            Self::Taken { .. } => "AddressTaken",
            Self::WrongFamily { .. } => "WrongFamily",
            Self::SecondOfFamily { .. } => "SecondOfFamily",
        }
    }
}

/// What an annotation says, which has room for a quarter of a megabyte: the remedy behind it is to be read too.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(LONGEST_QUOTE) {
            None => write!(out, "{:?}", self.0),
            Some((end, _)) => {
                let length = self.0.chars().count();
                write!(out, "{:?}... ({length} characters)", &self.0[..end])
            }
        }
    }
}

/// Characters: no name of an object and no address has as many.
const LONGEST_QUOTE: usize = 256;

struct List<'a>(&'a [ObjectKey]);

impl fmt::Display for List<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        joined(out, self.0)
    }
}

struct Fields<'a>(&'a [Arc<str>]);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        joined(out, self.0.iter().map(|field| format!("spec.{field}")))
    }
}

struct Families<'a>(&'a [Family]);

impl fmt::Display for Families<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[")?;
        joined(out, self.0)?;
        out.write_str("]")
    }
}

fn joined<T: fmt::Display>(
    out: &mut fmt::Formatter<'_>,
    all: impl IntoIterator<Item = T>,
) -> fmt::Result {
    for (index, one) in all.into_iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        write!(out, "{comma}{one}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_annotation_says_is_quoted_as_far_as_the_remedy_can_be_read_behind_it() {
        let said = |name: &str| {
            let name = name.into();
            Refusal::NoSuchPool { name }.to_string()
        };
        assert_eq!(
            said("public"),
            "annotation metallb.io/address-pool: there is no IPAddressPool \"public\": create it, or correct the annotation, \
             which names one pool"
        );
        let long = said(&"\u{e9}".repeat(100_000));
        assert!(long.len() < 1024, "{} bytes", long.len());
        assert!(
            long.contains("... (100000 characters): create it"),
            "{long}"
        );
        let text = "\u{1f600}\"".repeat(60_000).into();
        let long = Refusal::Unreadable { text }.to_string();
        assert!(
            long.ends_with("remove it to get any free address"),
            "{long}"
        );
    }
}
