//! What the parts use in each phase of the demo: what a vehicle costs once must not be taken for what its
//! messages cost.

use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::deployment::Deployment;
use crate::local::Usage;
use crate::simulate::Progress;

/// The parts, in the order of [`usage`].
pub(super) const PARTS: usize = 5;

/// What the parts have used so far, by name. The publisher is the demo itself, with what else it does.
pub(super) fn usage(deployment: &Deployment) -> [(&'static str, Usage); PARTS] {
    let [nats, postgres, discovery, workers] = deployment.usage();
    [nats, postgres, discovery, workers, ("publisher", Usage::own().unwrap_or_default())]
}

/// What goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// From the first message until all vehicles are bound and have settled.
    Binding,
    /// Nothing but messages.
    Steady,
    /// From a worker's end until its vehicles are bound again and have settled.
    Failover,
    /// From the last message until no vehicle is bound.
    Releasing,
}

/// What was used and done, in one phase or in several.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    pub took: Duration,
    pub cpu: [Duration; PARTS],
    /// Messages that JetStream has acknowledged.
    pub messages: u64,
    /// Rows that became durable, corrections included.
    pub rows: u64,
}

impl AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.took += other.took;
        self.cpu.iter_mut().zip(other.cpu).for_each(|(sum, more)| *sum += more);
        self.messages += other.messages;
        self.rows += other.rows;
    }
}

impl Spent {
    /// CPU seconds of a part.
    pub(super) fn seconds(&self, part: usize) -> f64 {
        self.cpu.get(part).map_or(0.0, Duration::as_secs_f64)
    }

    /// How many cores a part was busy on.
    pub(super) fn cores(&self, part: usize) -> f64 {
        self.seconds(part) / self.took.as_secs_f64()
    }

    /// CPU seconds of a part beyond what as many messages cost in a steady fleet.
    pub(super) fn beyond(&self, steady: &Self, part: usize) -> f64 {
        self.seconds(part) - steady.seconds(part) * self.messages as f64 / steady.messages.max(1) as f64
    }
}

/// The counters at a border between two phases.
#[derive(Debug, Clone, Copy)]
struct Border {
    at: Instant,
    cpu: [Duration; PARTS],
    messages: u64,
    rows: u64,
}

impl Border {
    async fn now(deployment: &Deployment, progress: &Progress) -> Self {
        Self {
            at: Instant::now(),
            cpu: usage(deployment).map(|(_, usage)| usage.cpu),
            messages: progress.acknowledged(),
            rows: deployment.durable_rows().await,
        }
    }

    fn until(&self, end: &Self) -> Spent {
        let mut cpu = end.cpu;
        cpu.iter_mut().zip(self.cpu).for_each(|(end, begin)| *end = end.saturating_sub(begin));
        Spent {
            took: end.at - self.at,
            cpu,
            messages: end.messages.saturating_sub(self.messages),
            rows: end.rows.saturating_sub(self.rows),
        }
    }
}

/// The phases so far.
#[derive(Debug)]
pub(super) struct Phases {
    progress: Arc<Progress>,
    settle: Duration,
    phase: Phase,
    begun: Border,
    over: Vec<(Phase, Spent)>,
    /// Since when the vehicles have all been bound.
    bound: Option<Instant>,
}

impl Phases {
    /// Begins with binding. A phase of binding is over once all vehicles have been bound for `settle`, in
    /// which signs of holding, states and catch-ups have had their turn.
    pub(super) async fn begin(deployment: &Deployment, progress: Arc<Progress>, settle: Duration) -> Self {
        let begun = Border::now(deployment, &progress).await;
        Self { progress, settle, phase: Phase::Binding, begun, over: Vec::new(), bound: None }
    }

    /// The next phase begins now, unless it has already.
    pub(super) async fn next(&mut self, phase: Phase, deployment: &Deployment) {
        if self.phase != phase {
            self.end(deployment).await;
            self.phase = phase;
            self.bound = None;
        }
    }

    /// Ends the phase; for the last one.
    pub(super) async fn end(&mut self, deployment: &Deployment) {
        let end = Border::now(deployment, &self.progress).await;
        self.over.push((self.phase, self.begun.until(&end)));
        self.begun = end;
    }

    /// Looks whether the vehicles, `active` by the queue, are bound for long enough.
    pub(super) async fn look(&mut self, active: Option<u64>, deployment: &Deployment) {
        if !matches!(self.phase, Phase::Binding | Phase::Failover) {
            return;
        }
        match active {
            Some(active) if active > 0 && deployment.bound_by_living().await >= active => {
                if self.bound.get_or_insert_with(Instant::now).elapsed() >= self.settle {
                    self.next(Phase::Steady, deployment).await;
                }
            }
            _ => self.bound = None,
        }
    }

    /// All that was spent in a phase, if it came about.
    pub(super) fn spent(&self, phase: Phase) -> Option<Spent> {
        let mut sum = Spent::default();
        self.over.iter().filter(|(of, _)| *of == phase).for_each(|(_, spent)| sum += *spent);
        (sum.took > Duration::ZERO).then_some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(seconds: u64, cpu: u64, messages: u64) -> Spent {
        let took = Duration::from_secs(seconds);
        Spent { took, cpu: [Duration::from_secs(cpu); PARTS], messages, rows: 0 }
    }

    #[test]
    fn what_its_messages_cost_in_a_steady_fleet_is_no_cost_of_binding() {
        let steady = spent(100, 50, 1000);
        assert!((steady.cores(0) - 0.5).abs() < 1e-9);
        assert!((spent(10, 8, 100).beyond(&steady, 0) - 3.0).abs() < 1e-9);
        assert!((spent(10, 8, 0).beyond(&steady, 0) - 8.0).abs() < 1e-9);
    }

    #[test]
    fn a_phase_that_comes_twice_is_added_up_and_one_that_did_not_come_is_none() {
        let border = Border { at: Instant::now(), cpu: [Duration::ZERO; PARTS], messages: 0, rows: 0 };
        let over = vec![
            (Phase::Steady, spent(2, 1, 5)),
            (Phase::Binding, spent(9, 9, 5)),
            (Phase::Steady, spent(4, 2, 5)),
        ];
        let phases = Phases {
            progress: Arc::default(),
            settle: Duration::ZERO,
            phase: Phase::Steady,
            begun: border,
            over,
            bound: None,
        };
        let steady = phases.spent(Phase::Steady).unwrap();
        assert_eq!((steady.took.as_secs(), steady.cpu[3].as_secs(), steady.messages), (6, 3, 10));
        assert!(phases.spent(Phase::Failover).is_none());
    }
}
