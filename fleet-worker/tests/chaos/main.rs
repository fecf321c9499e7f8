//! Whole processes, links and clocks fail by a seeded plan, and hostile vehicles drive among good ones. Afterwards
//! the table is what the good ones' acknowledged samples give, memory was bounded, nothing is held, and every fault
//! was visible while it lasted.
//!
//! `FLEET_CHAOS_SEED` chooses the plan, `FLEET_CHAOS_SECONDS` its length, and `FLEET_CHAOS_TRACKS` which kinds of
//! faults there are (`programs,nats,postgres,nats-links,postgres-links,clocks,attacks`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod clock;
mod dice;
mod end;
mod fleet;
mod hostile;
mod journal;
mod plan;
mod pods;
mod proxy;
mod run;
mod signs;
mod stage;
mod strike;
mod watch;

/// One server that syncs what it acknowledges.
#[tokio::test(flavor = "multi_thread")]
async fn one_server() {
    Box::pin(run::chaos("one_server", 1)).await;
}

/// Three servers that keep everything three times.
#[tokio::test(flavor = "multi_thread")]
async fn three_servers() {
    Box::pin(run::chaos("three_servers", 3)).await;
}
