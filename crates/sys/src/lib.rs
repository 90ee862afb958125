//! System calls that need unsafe or a capability.
