//! The Service strategy.
