//! What a disk can do to a store, and what must hold all the same.
#![allow(clippy::unwrap_used, reason = "tests, and what they share")]

mod damage;
mod disk;
mod faults;
mod model;
mod prefixes;
