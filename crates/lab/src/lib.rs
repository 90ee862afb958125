//! A cluster out of network namespaces.
