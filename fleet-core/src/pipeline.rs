//! The Tokio driver: joins a source, a binder and a sink around a [`Lane`].

mod counters;
mod durable;
mod held;
mod leaving;
mod phase;
mod showing;
mod sinking;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

pub use counters::Counters;

use self::durable::{Checkpoint, Deferred};
use self::held::{Elapsed, FirstSample, HeldVehicles, Ticket};
use self::showing::Showing;
use self::sinking::Sinking;
use crate::bind::{BindEvent, Binder, Binding, NewestStore};
use crate::error::{Error, Result};
use crate::ids::Slot;
use crate::lane::{Lane, Rows};
use crate::message::{DeadLetter, Message, Refusal};
use crate::sink::Sink;
use crate::source::{Attach, Source, SourceEvent};
use crate::time::{Micros, SECOND, display, micros};

/// Choices of a pipeline.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// Vehicles at most.
    pub max_vehicles: usize,
    /// A batch is sealed when it has this many rows …
    pub batch_rows: usize,
    /// … or its oldest row is this old.
    pub batch_age: Duration,
    /// What a sink has accepted is made durable after this long at the latest: states and released
    /// vehicles wait for it where a sink gathers.
    pub max_lag: Duration,
    /// Rows that wait for a sink at most; beyond, live messages are left to the stream.
    pub max_waiting_rows: usize,
    /// How often states are saved.
    pub save_interval: Duration,
    /// How often a vehicle's newest samples are shown at most, where [`Pipeline::show_in`] says where.
    pub newest_interval: Duration,
    /// How long after its `off` a vehicle's samples are waited for.
    pub patience: Duration,
    /// Without any sign of life for this long a vehicle counts as off.
    pub idle_timeout: Duration,
    /// A vehicle of which no sample was ever stored, and none comes for this long after its catch-up, gives
    /// way: it counts as off, whatever else it says. Where all places are taken, or all of the 2,048 that such
    /// vehicles have, after an eighth of it.
    pub first_sample_timeout: Duration,
    /// How long the last batch may take on shutdown.
    pub shutdown_deadline: Duration,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            max_vehicles: 10_000,
            batch_rows: 20_000,
            batch_age: Duration::from_secs(1),
            max_lag: Duration::from_secs(5 * 60),
            max_waiting_rows: 200_000,
            save_interval: Duration::from_secs(30),
            newest_interval: Duration::from_secs(3),
            patience: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(15 * 60),
            first_sample_timeout: Duration::from_secs(2 * 60),
            shutdown_deadline: Duration::from_secs(25),
        }
    }
}

/// How long a jump of a frame's counter may turn out to be a mere change of order.
const GRACE: Micros = 2 * SECOND;

/// How long giving back the vehicles may take on shutdown, after the last batch …
const GIVE_BACK: Duration = Duration::from_secs(5);

/// … and keeping the last dead letters.
const LAST_LETTERS: Duration = Duration::from_secs(3);

/// Vehicles at a time of which no sample was ever heard of: of those that don't exist there are as many as
/// somebody likes, and each costs as much memory as any other.
const SILENT: usize = 2_048;

/// Messages at most that are taken before anything else has its turn again.
const MAX_GROUP: usize = 64;

/// How often time is let pass.
const TICK: Duration = Duration::from_millis(250);

/// A source, a binder and a sink around a lane.
#[derive(Debug)]
pub struct Pipeline<S, B> {
    source: S,
    binder: B,
    sinking: Sinking,
    lane: Lane,
    options: PipelineOptions,
    counters: Arc<Counters>,
    /// When it began.
    began: Instant,
    held: HeldVehicles,
    /// What becomes due when a batch is durable, oldest first.
    checkpoints: VecDeque<Checkpoint>,
    /// What waits for rows that the sink has set aside.
    deferred: Deferred,
    /// Counter jumps within their grace, one a vehicle.
    gaps: VecDeque<(Elapsed, Ticket, Micros)>,
    /// A save that the store has not confirmed.
    saving: Option<u64>,
    last_save: Instant,
    /// Where the newest samples are shown.
    showing: Option<Showing>,
    oldest_row: Option<Instant>,
    /// Messages on their way to the lane; empty between events.
    group: Vec<Message>,
    behind: bool,
}

impl<S: Source, B: Binder> Pipeline<S, B> {
    /// Joins the parts; nothing runs yet. Wrap the sink in [`Retry`](crate::sink::Retry) unless it
    /// repeats by itself.
    pub fn new(
        source: S,
        binder: B,
        sink: impl Sink + 'static,
        lane: Lane,
        options: PipelineOptions,
    ) -> Self {
        Self {
            source,
            binder,
            sinking: Sinking::new(sink, options.max_lag),
            lane,
            counters: Arc::default(),
            began: Instant::now(),
            held: HeldVehicles::new(micros(options.patience), micros(options.idle_timeout)),
            options,
            checkpoints: VecDeque::new(),
            deferred: Deferred::default(),
            gaps: VecDeque::new(),
            saving: None,
            last_save: Instant::now(),
            showing: None,
            oldest_row: None,
            group: Vec::with_capacity(MAX_GROUP),
            behind: false,
        }
    }

    /// Shows each vehicle's newest samples in a store, [`PipelineOptions::newest_interval`] after they came at the latest.
    /// Needs a Tokio runtime.
    #[must_use]
    pub fn show_in(mut self, store: impl NewestStore) -> Self {
        self.showing = Some(Showing::new(store, self.options.newest_interval.div_duration_f64(TICK)));
        self
    }

    /// What it does, readable while it runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Runs until `stop` is ready, then makes durable what is complete, gives all vehicles back, with the samples
    /// whose rows are still to come, and returns. Dropping the future instead is safe for what is stored, and others get the vehicles
    /// after `ack_wait`.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) or
    /// [`Internal`](crate::ErrorKind::Internal) of an edge; what can be tried again is, inside.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        let ended = match self.serve(stop).await {
            Ok(()) => self.leave().await,
            Err(error) => Err(error),
        };
        // Also after an error: what we hold would wait for `ack_wait`.
        let given_back = self.give_back().await;
        ended.and(given_back)
    }

    /// Takes events until `stop` is ready.
    async fn serve(&mut self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        let mut stop = std::pin::pin!(stop);
        let mut ticker = tokio::time::interval(TICK);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let free = if self.behind { 0 } else { self.free() };
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                sunk = self.sinking.done() => self.on_sunk(sunk?)?,
                event = self.binder.next(free) => self.on_bind(event?),
                _ = ticker.tick() => self.on_tick(),
                event = self.source.next() => self.on_events(event?)?,
            }
            self.seal_if_due()?;
        }
    }

    /// How many more vehicles it takes for now.
    fn free(&self) -> usize {
        let places = self.options.max_vehicles.saturating_sub(self.lane.vehicles());
        places.min(SILENT.saturating_sub(self.held.without_sample()))
    }

    fn elapsed(&self) -> Elapsed {
        micros(self.began.elapsed())
    }

    /// Takes an event, and the messages that are there already: the lane is quicker with many at once.
    fn on_events(&mut self, first: SourceEvent) -> Result<()> {
        let mut next = Some(first);
        let elapsed = self.elapsed();
        while let Some(event) = next.take() {
            let is_message = matches!(event, SourceEvent::Message(_));
            if !is_message {
                self.flush_group(elapsed);
            }
            self.on_source(event, elapsed);
            if is_message && self.group.len() < MAX_GROUP {
                next = self.source.next().now_or_never().transpose()?;
            }
        }
        self.flush_group(elapsed);
        Ok(())
    }

    /// Gives the group to the lane, and takes what it made of it: however much a vehicle sends, no more
    /// than a group's letters and jumps are ever at hand.
    fn flush_group(&mut self, elapsed: Elapsed) {
        self.group.retain(|message| self.held.hear(message, elapsed));
        if self.behind {
            for message in self.group.drain(..) {
                self.held.miss(message.slot, message.arrival);
            }
            return;
        }
        self.lane.messages(&self.group);
        self.group.clear();
        for letter in self.lane.take_letters() {
            if letter.refusal == Refusal::Capacity {
                let DeadLetter { vehicle, signal, detail, .. } = &letter;
                tracing::warn!(%vehicle, signal, detail, "no room for a signal's samples");
            }
            self.tell_of_clock(&letter);
            self.source.refuse(letter);
        }
        for (slot, from) in self.lane.take_gaps() {
            let after_grace = self.elapsed().saturating_add(GRACE);
            let Some(held) = self.held.at(slot) else { continue };
            // The first jump's catch-up reaches up to then.
            if !std::mem::replace(&mut held.jumped, true) {
                self.gaps.extend(self.held.ticket(slot).map(|ticket| (after_grace, ticket, from)));
            }
        }
    }

    fn on_source(&mut self, event: SourceEvent, elapsed: Elapsed) {
        match event {
            SourceEvent::Message(message) => {
                self.held.prefetch(message.slot);
                self.group.push(message);
            }
            SourceEvent::CaughtUp(slots) => {
                let now = self.source.now();
                for slot in slots {
                    let Some(held) = self.held.at(slot) else { continue };
                    held.last_sign = held.last_sign.max(now);
                    held.heard = elapsed;
                    if held.first_sample == FirstSample::CatchingUp {
                        held.first_sample = FirstSample::AwaitedSince(elapsed);
                    }
                    if !held.has_missed() {
                        self.lane.caught_up(slot, now);
                    }
                }
            }
            SourceEvent::Off { slot, stored } => self.on_off(slot, stored),
            SourceEvent::On { slot, started_at } => self.on_again(slot, started_at),
            SourceEvent::Settled(slot) => self.on_settled(slot),
            SourceEvent::Gap { slot, wanted, found } => {
                Counters::add(&self.counters.unreachable, 1);
                if let Some(vehicle) = self.lane.name(slot) {
                    let (wanted, found) = (display(wanted), display(found));
                    tracing::debug!(%vehicle, wanted, found, "the stream no longer holds what must be caught up");
                }
            }
        }
    }

    fn on_bind(&mut self, event: BindEvent) {
        match event {
            BindEvent::Bound(bindings) => self.on_bound(bindings),
            BindEvent::Lost(vehicles) => {
                Counters::add(&self.counters.lost, vehicles.len() as u64);
                for vehicle in vehicles {
                    if let Some(slot) = self.lane.find(&vehicle) {
                        self.let_go(slot, Rows::Drop);
                    }
                }
            }
            BindEvent::LostAll => {
                Counters::add(&self.counters.lost, self.lane.vehicles() as u64);
                for slot in self.lane.slots() {
                    self.let_go(slot, Rows::Drop);
                }
                self.lane.drop_rows();
                self.checkpoints.clear();
                self.deferred.clear();
                self.saving = None;
            }
            BindEvent::Saved(ticket) => {
                if self.saving == Some(ticket) {
                    self.saving = None;
                }
            }
            BindEvent::Released(vehicle) => {
                Counters::add(&self.counters.released, 1);
                if let Some(slot) = self.lane.find(&vehicle) {
                    self.let_go(slot, Rows::Keep);
                }
            }
            BindEvent::Kept(vehicle) => {
                if let Some(slot) = self.lane.find(&vehicle) {
                    self.on_kept(slot);
                }
            }
        }
        Counters::set(&self.counters.bound, self.lane.vehicles() as u64);
    }

    fn on_bound(&mut self, bindings: Vec<Binding>) {
        let (now, heard) = (self.source.now(), self.elapsed());
        let margin = micros(self.binder.lease());
        Counters::add(&self.counters.bindings, bindings.len() as u64);
        let mut group = Vec::with_capacity(bindings.len());
        for mut binding in bindings {
            if let Some(old) = self.lane.find(&binding.vehicle) {
                self.let_go(old, Rows::Drop);
            }
            // What is yet to be stored can't be in it.
            binding.carry.take_if(|carry| carry.until > now);
            let slot = self.lane.bind(&binding);
            let Binding { vehicle, start, on_time, floor, horizon, carry, .. } = binding;
            let known =
                floor.is_some() || horizon.iter().any(Option::is_some) || self.lane.samples_held(slot) > 0;
            self.held.take_in(slot, now, heard, known);
            let taken = carry.filter(|_| self.lane.is_carried(slot)).map(|carry| carry.until);
            Counters::add(&self.counters.carried, u64::from(taken.is_some()));
            // Otherwise it is the plan for a vehicle of which nothing is known, see `bind::plan`.
            let resumes = start != on_time - self.lane.context();
            let stored_at = (resumes && taken.is_none()).then_some(start.saturating_add(margin));
            group.push(Attach { slot, vehicle, from: start, taken, on_time, stored_at });
        }
        self.source.attach(group);
    }

    fn let_go(&mut self, slot: Slot, rows: Rows) {
        self.source.detach(slot);
        self.lane.unbind(slot, rows);
        self.held.let_go(slot);
    }

    fn on_tick(&mut self) {
        let now = self.source.now();
        if !self.behind {
            self.lane.tick(now);
        }
        let elapsed = self.elapsed();
        let mut due = Vec::new();
        while let Some((_, ticket, from)) = self.gaps.pop_front_if(|(at, ..)| *at <= elapsed) {
            if let Some(held) = self.held.get(ticket) {
                held.jumped = false;
                due.push((ticket.slot, from));
            }
        }
        if !due.is_empty() {
            Counters::add(&self.counters.catch_ups, due.len() as u64);
            self.source.catch_up(&due);
        }
        self.advance_phases(elapsed);
        if let Some(showing) = self.showing.as_mut().filter(|_| self.binder.holds()) {
            showing.show(&mut self.lane);
        }
        Counters::set(&self.counters.waiting_rows, self.lane.rows() as u64);
        self.counters.publish(self.lane.counters());
    }

    /// Says once for as long as a vehicle is held that its times are refused: all that it sends may be.
    fn tell_of_clock(&mut self, letter: &DeadLetter) {
        if !matches!(letter.refusal, Refusal::TooOld | Refusal::InFuture) {
            return;
        }
        let Some(held) = self.lane.find(&letter.vehicle).and_then(|slot| self.held.at(slot)) else { return };
        if !std::mem::replace(&mut held.clock_told, true) {
            let DeadLetter { vehicle, signal, detail, .. } = letter;
            tracing::warn!(%vehicle, signal, detail, "samples are refused for their time, is the device's clock set?");
        }
    }

    /// Gives all vehicles back, and keeps the last dead letters meanwhile.
    async fn give_back(&mut self) -> Result<()> {
        let letters = tokio::time::timeout(LAST_LETTERS, self.source.shut_down());
        let vehicles = tokio::time::timeout(GIVE_BACK, self.binder.shut_down());
        let (_, given_back) = tokio::join!(letters, vehicles);
        given_back.unwrap_or_else(|_| {
            Err(Error::unavailable(
                "the vehicles could not be given back in time; they come to others after ack_wait",
            ))
        })
    }
}
