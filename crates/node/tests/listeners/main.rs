//! What an agent answers by itself, asked over real sockets, and the addresses that it does so at.

mod addresses;
mod fixture;
mod health_check;
mod loopback;
