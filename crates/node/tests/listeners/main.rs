//! What an agent answers by itself, asked over real sockets.

mod fixture;
mod health_check;
mod loopback;
