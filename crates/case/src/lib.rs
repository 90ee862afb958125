//! Behaviour cases as text.
