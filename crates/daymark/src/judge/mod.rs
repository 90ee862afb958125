//! Judges of behaviour cases beside the model: the compiled program, and real packets.

pub(crate) mod lab;
pub(crate) mod trace;
