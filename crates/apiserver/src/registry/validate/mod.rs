//! What is wrong with an object, field by field: pure functions from the new object and the stored one (on update)
//! to a list of [`FieldError`]s, empty when nothing is.
//!
//! The decoder has checked shapes before: an absent field and a null are the same here, and a wrong type reads as
//! absent.

pub mod field;
pub mod ip;
pub mod meta;
pub mod names;
pub mod read;

mod coordination;
mod core;
mod discovery;
mod networking;
mod node;
mod pod;
mod pools;

pub use self::coordination::validate_lease;
pub use self::core::{validate_config_map, validate_event, validate_namespace};
pub use self::discovery::validate_endpoint_slice;
pub use self::field::{FieldError, Kind, Path, causes};
pub use self::networking::{
    validate_ip_address, validate_service_cidr, validate_service_cidr_status,
};
pub use self::node::validate_node;
pub use self::pod::validate_pod;
pub use self::pools::{validate_ip_address_pool, validate_l2_advertisement};
