//! What a Service means, tested from outside: by the cases, by properties of random clusters, and by rows.

mod address;
mod audience;
mod cases;
mod desired;
mod endpoints;
mod explain;
mod flows;
mod hostile;
mod interface;
mod laxity;
mod listeners;
mod node_ports;
mod rules;
mod world;
