//! Controllers a Service needs.
