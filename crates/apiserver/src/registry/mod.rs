//! The registry: which kinds are served, and what each of them does to an object on its way to the store.

pub mod alloc;
pub mod resource;
pub mod service;
pub mod strategy;
pub mod validate;

pub use resource::{Resource, Scope};
pub use strategy::{
    Context, DryRun, Effects, FieldValidation, Strategy, Subresource, User, Verb, View,
};
