//! The nftables plane: a constant ruleset, and elements that change.
//!
//! - [`layout`]: the names of sets and chains, the registers, the flags: what a dump means;
//! - [`base`]: the rules that are always there;
//! - [`plan`]: the small chains that a frontend's plan names;
//! - [`program`]: a whole program as a value that takes messages as the kernel does;
//! - [`compile`]: from [`daymark_model::Desired`] to a program, and from a change to transactions;
//! - [`trace`]: walks a program with a packet;
//! - [`apply`]: keeps a kernel in step with the compiler;
//! - [`inspect`]: what the tables hold for one place, read back;
//! - [`counts`]: what the tables counted;
//! - [`compare`]: what a kernel holds against what it should hold, all of it;
//! - [`kernel`]: the kernel itself, by netlink.
//!
//! `README.md` beside this file draws the hooks and says why each thing stands where it stands.

pub mod layout;

pub mod base;

pub mod plan;

pub mod program;

pub mod compile;

pub mod trace;

pub mod apply;

pub mod inspect;

pub mod counts;

pub mod compare;

pub mod kernel;

pub use daymark_netlink::nft::{TableFlags, TableId};
