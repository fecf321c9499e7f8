//! The TimescaleDB sink and states against real servers.

#![allow(clippy::unwrap_used, clippy::future_not_send, reason = "tests, their helpers included")]

mod both;
#[path = "../../../fleet-worker/tests/e2e/ca.rs"]
mod ca;
mod contract;
mod disk;
mod faults;
mod fixture;
mod grafana;
mod hot_first;
mod jobs;
mod locks;
mod maintain;
mod newest;
mod old_days;
mod outages;
mod policies;
mod pooler;
mod reader;
mod rekey;
mod retire;
mod server;
mod setup;
mod sink;
mod states;
mod tls;
mod views;
