//! The plane against the kernel of this machine, each test in namespaces of its own.

mod common;
#[path = "kernel/death.rs"]
mod death;
#[path = "kernel/edits.rs"]
mod edits;
#[path = "kernel/inspect.rs"]
mod inspect;
#[path = "kernel/isolation.rs"]
mod isolation;
#[path = "kernel/load.rs"]
mod load;
mod narrow;
#[path = "kernel/nft_tool.rs"]
mod nft_tool;
#[path = "kernel/owner.rs"]
mod owner;
#[path = "kernel/picky.rs"]
mod picky;
#[path = "kernel/setup.rs"]
mod setup;
#[path = "kernel/walk.rs"]
mod walk;
