//! What a disk can do to a store, and what must hold all the same.

mod damage;
mod disk;
mod faults;
mod model;
mod prefixes;
