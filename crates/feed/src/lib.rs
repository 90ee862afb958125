//! Kubernetes watch streams to compact records.
