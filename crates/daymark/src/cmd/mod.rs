//! One module a verb: flags, and a thin `run` over the crate that does the work.

pub(crate) mod api;
pub(crate) mod ask;
pub(crate) mod bench;
pub(crate) mod case;
pub(crate) mod cleanup;
pub(crate) mod conformance;
pub(crate) mod controller;
pub(crate) mod demo;
pub(crate) mod echo;
pub(crate) mod explain;
pub(crate) mod guest;
pub(crate) mod kubelet;
pub(crate) mod lab;
pub(crate) mod node;
pub(crate) mod status;
pub(crate) mod store;
