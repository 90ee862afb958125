//! A cluster out of network namespaces.
//!
//! In reading order: [`net`] wires namespaces together; [`bare`] adds servers and probes, to judge data planes;
//! [`cluster`] is a whole cluster of processes, in which [`kubelet`] runs Pods and [`echo`] is what they run;
//! [`scenario`] says what happens to one, line by line; [`control`] is the real control plane of Kubernetes, to compare with.

pub mod bare;
mod child;
mod clock;
pub mod cluster;
pub mod control;
pub mod echo;
mod etc;
pub mod kubelet;
pub mod net;
pub mod scenario;
