//! What a Service means on one node.
