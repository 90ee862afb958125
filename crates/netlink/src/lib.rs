//! Typed kernel messages and their bytes.
//!
//! Everything here is a value or a pure function over bytes: no socket, no clock, no unsafe. `sys` sends
//! and receives; `dataplane` decides what to send.
//!
//! In reading order: [`attr`] and [`frame`] are the two layers of netlink framing; [`nft`] describes
//! nf_tables objects, rules and batches; [`ct`] describes conntrack entries; [`genl`], [`ipvs`] and [`ipset`] what else
//! kube-proxy may have left.

#[macro_use]
mod code;

pub mod attr;
pub mod frame;

pub mod nft;

pub mod ct;

pub mod genl;

pub mod ipvs;

pub mod ipset;
