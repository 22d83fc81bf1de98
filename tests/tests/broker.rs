//! The broker's core over a log in memory: a seeded simulation against a naive oracle, and the cases that need a
//! certain order of things.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "broker/access.rs"]
mod access;
#[path = "broker/arrival.rs"]
mod arrival;
#[path = "broker/backwards.rs"]
mod backwards;
#[path = "broker/cases.rs"]
mod cases;
#[path = "broker/clients.rs"]
mod clients;
#[path = "support/granting.rs"]
mod granting;
#[path = "broker/oracle.rs"]
mod oracle;
#[path = "broker/pages.rs"]
mod pages;
#[path = "broker/rig.rs"]
mod rig;
#[path = "broker/simulation.rs"]
mod simulation;
#[path = "broker/socket.rs"]
mod socket;
#[path = "broker/timer.rs"]
mod timer;
