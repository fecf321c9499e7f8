//! On shutdown: what has come, so that the next holders need not read it again.

use std::time::Duration;

use super::NatsSource;
use super::vehicle::Attached;
use crate::source::Drained;
use crate::time::{Micros, micros};

/// On a cluster what was stored may still be on its way to us over a route that is slow; a dead one is closed and
/// noticed later.
const ROUTES: Duration = Duration::from_secs(30);

/// On a cluster, where a route may lose a vehicle's messages without a word, one that was not heard of for longer than
/// this may lack something: a vehicle that is on repeats that every minute.
const SUSPECT: Duration = Duration::from_secs(90);

impl NatsSource {
    /// Waits until the server has sent all that it accepted by now, and reads no more after that. `None` without a
    /// connection.
    pub(super) async fn take_all(&mut self) -> Option<Drained> {
        if self.link.is_down() {
            return None;
        }
        let asked = self.clock.now();
        let barrier = self.live.barrier();
        // A connection that is lost meanwhile leaves all vehicles behind.
        while !self.live.has_passed(barrier) {
            self.live.readable().await;
            self.on_readable().ok()?;
        }
        self.drained = true;
        let cluster = self.side.client().server_info().cluster.is_some();
        let suspect = |vehicle: &Attached| cluster && vehicle.heard() < asked - micros(SUSPECT);
        let behind = self.vehicles.all().filter(|(_, v)| !v.feed.is_live() || suspect(v));
        let behind = behind.map(|(slot, _)| slot).collect();
        // The stream's leader may have another clock than the server that was asked for its time.
        let margin = if cluster { micros(ROUTES) } else { self.margin() };
        Some(Drained { until: asked - margin, behind })
    }
}

impl Attached {
    /// When the last sample came, server time.
    fn heard(&self) -> Micros {
        self.seen.iter().flatten().map(|(_, arrival)| *arrival).max().unwrap_or(Micros::MIN)
    }
}
