//! What the model wants, translated to kernel objects: one folder a plane.
//!
//! A plane decides nothing about Services. It turns [`daymark_model::Desired`] into a program, a program
//! into messages, and can walk the program in plain Rust, so that it is judged by the same cases as the
//! model and the kernel.

pub mod conntrack;
pub mod leftovers;
pub mod nft;
