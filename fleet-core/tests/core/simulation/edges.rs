//! Edges in memory that make trouble.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fleet_core::batch::Batch;
use fleet_core::bind::memory::MemoryStates;
use fleet_core::bind::{Claim, ClaimRequest, StateStore, VehicleState};
use fleet_core::decode::{DecodeError, Decoder};
use fleet_core::error::{Error, Result};
use fleet_core::sample::Samples;
use fleet_core::schema::Signal;
use fleet_core::sink::memory::{MemorySink, rows};
use fleet_core::sink::{Progress, Sink};
use fleet_core::{Micros, VehicleId};

use super::aside::Aside;
use super::play::Fault;
use super::traffic::{Dice, Sample};

/// A user's own format: per sample its little-endian event time, then the values.
#[derive(Debug)]
pub(super) struct Raw;

pub(super) fn payload(samples: &[Sample]) -> Bytes {
    let words = samples.iter().flat_map(|(time, values)| {
        std::iter::once(time.to_le_bytes()).chain(values.iter().map(|v| v.to_le_bytes()))
    });
    words.flatten().collect()
}

impl Decoder for Raw {
    fn decode(
        &self,
        signal: &Signal,
        payload: &[u8],
        out: &mut Samples,
    ) -> std::result::Result<(), DecodeError> {
        let (words, _) = payload.as_chunks::<8>();
        for sample in words.chunks_exact(signal.columns.len() + 1) {
            let values: Vec<f64> = sample[1..].iter().map(|w| f64::from_le_bytes(*w)).collect();
            out.push(i64::from_le_bytes(sample[0]), &values);
        }
        Ok(())
    }

    fn sequence(&self, _: &[u8]) -> Option<u16> {
        None
    }
}

/// What the sinks of a run have been given and done.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) batches: Mutex<Vec<u8>>,
    pub(super) failures: AtomicU64,
    pub(super) set_aside: AtomicU64,
    /// Signals that held something back in a state, by the epoch, and nothing in a later one of that epoch.
    pub(super) past: AtomicU64,
    held: Mutex<HashMap<(VehicleId, usize), i32>>,
    /// What was asked of the states last.
    pub(super) claim: Mutex<Option<LateClaim>>,
}

/// A slow sink that fails before or after it has written, as often as told.
pub(super) struct Flaky {
    /// What it writes by, if it sets rows aside.
    pub(super) aside: Option<Aside>,
    pub(super) inner: MemorySink,
    pub(super) dice: Dice,
    /// Of 100 batches.
    pub(super) failures: i64,
    pub(super) fault: Fault,
    /// What is said to be durable and is not.
    pub(super) pending: VecDeque<Batch>,
    pub(super) log: Arc<Log>,
}

impl Flaky {
    async fn write(&mut self, batch: &Batch) -> Result<Progress> {
        if let (Some(aside), true) = (&mut self.aside, self.fault != Fault::DurableTooEarly) {
            let progress = aside.accept(batch).await;
            self.log.set_aside.fetch_add(aside.waiting(), Ordering::Relaxed);
            return progress;
        }
        if self.fault != Fault::DurableTooEarly {
            return Sink::accept(&mut self.inner, batch).await;
        }
        self.pending.push_back(batch.clone());
        if self.pending.len() > 5
            && let Some(pending) = self.pending.pop_front()
        {
            Sink::accept(&mut self.inner, &pending).await?;
        }
        Ok(Progress::up_to(batch.sequence()))
    }
}

impl Sink for Flaky {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        let seen = format!("{} {:?}\n", batch.sequence(), rows(batch));
        self.log.batches.lock().unwrap().extend(seen.into_bytes());
        // Now and then slower than all that a window holds.
        let slowest = if self.dice.one_in(10) { 15_000 } else { 400 };
        tokio::time::sleep(Duration::from_millis(self.dice.below(slowest).unsigned_abs())).await;
        if self.dice.below(100) >= self.failures {
            return self.write(batch).await;
        }
        self.log.failures.fetch_add(1, Ordering::Relaxed);
        if self.dice.one_in(2) {
            self.write(batch).await?;
        }
        Err(Error::unavailable("the response was lost"))
    }

    async fn flush(&mut self) -> Result<Progress> {
        match self.fault {
            Fault::DurableTooEarly => Ok(Progress::default()),
            _ => match &mut self.aside {
                Some(aside) => aside.flush().await,
                None => Sink::flush(&mut self.inner).await,
            },
        }
    }
}

/// States behind a slow connection: a worker may die before and after each access. As in a database, the
/// rows beside them are guarded by the epochs.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub(super) inner: Arc<MemoryStates>,
    pub(super) table: MemorySink,
    pub(super) fault: Fault,
    pub(super) log: Arc<Log>,
}

/// A claim that is carried out once more, or only now: who sent it is dead, or has lost the vehicles.
#[derive(Debug, Clone)]
pub(super) struct LateClaim {
    requests: Vec<ClaimRequest>,
    now: Micros,
    context: Micros,
}

impl LateClaim {
    pub(super) async fn arrive(self, after: Duration, states: Remote) {
        tokio::time::sleep(after).await;
        let _ = states.claim(&self.requests, self.now, self.context).await;
    }
}

async fn travel() {
    tokio::time::sleep(Duration::from_millis(3)).await;
}

impl StateStore for Remote {
    async fn claim(&self, requests: &[ClaimRequest], now: Micros, context: Micros) -> Result<Vec<Claim>> {
        *self.log.claim.lock().unwrap() = Some(LateClaim { requests: requests.to_vec(), now, context });
        travel().await;
        let mut claims = self.inner.claim(requests, now, context).await?;
        claims.iter().for_each(|claim| self.table.claimed(&claim.vehicle, claim.epoch));
        if self.fault == Fault::NoReplay {
            // What was stored before the `on` or by now was somebody else's business.
            claims.iter_mut().for_each(|claim| claim.start = now);
        }
        travel().await;
        Ok(claims)
    }

    async fn save(&self, states: &[VehicleState]) -> Result<Vec<VehicleId>> {
        travel().await;
        states.iter().for_each(|state| self.log.note(state));
        let mut states = states.to_vec();
        if let Fault::PastTooEarly(behind) = self.fault {
            states.iter_mut().for_each(|state| let_go_of_the_silent(state, behind));
        }
        if let Fault::CarriesTooMuch(later) = self.fault {
            states.iter_mut().filter_map(|state| state.carry.as_mut()).for_each(|carry| carry.until += later);
        }
        let superseded = self.inner.save(&states).await?;
        travel().await;
        Ok(if self.fault == Fault::Unnoticed { Vec::new() } else { superseded })
    }

    async fn end_trips(&self, ends: &[(VehicleId, Micros)]) -> Result<()> {
        travel().await;
        self.inner.end_trips(ends).await
    }

    async fn begin_trip(&self, vehicle: &VehicleId, started_at: Micros, told_at: Micros) -> Result<()> {
        travel().await;
        self.inner.begin_trip(vehicle, started_at, told_at).await
    }
}

impl Log {
    fn note(&self, state: &VehicleState) {
        let mut held = self.held.lock().unwrap();
        for (s, (horizon, newest)) in state.horizon.iter().zip(&state.newest).enumerate() {
            let signal = (state.vehicle.clone(), s);
            if newest.is_some() && horizon <= newest {
                held.insert(signal, state.epoch);
            } else if held.remove(&signal) == Some(state.epoch) {
                self.past.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Counts a signal as dead that is so far behind the others.
fn let_go_of_the_silent(state: &mut VehicleState, behind: Micros) {
    let newest = state.newest.iter().flatten().max().copied();
    for (horizon, own) in state.horizon.iter_mut().zip(&state.newest) {
        if own.zip(newest).is_some_and(|(own, newest)| own + behind < newest) {
            *horizon = (*horizon).max(own.map(|own| own + 1));
        }
    }
}

/// A worker that dies when it has been polled so often, at any await, or when it is struck.
pub(super) struct Mortal<F, S> {
    pub(super) worker: Pin<Box<F>>,
    pub(super) polls: i64,
    pub(super) struck: Pin<Box<S>>,
}

impl<F: Future, S: Future> Future for Mortal<F, S> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.polls -= 1;
        if self.polls < 0 || self.struck.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        self.worker.as_mut().poll(context).map(Some)
    }
}
