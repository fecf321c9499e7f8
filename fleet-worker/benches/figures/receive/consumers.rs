//! The ways to receive that are compared. Each has a thread with a runtime of its own, on which all of it runs.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleet_core::batch::Batch;
use fleet_core::bind::{BindEvent, Binder, Binding, VehicleState};
use fleet_core::error::Result;
use fleet_core::ids::Slot;
use fleet_core::lane::Lane;
use fleet_core::nats::reader::{Read, Reader, ReaderOptions};
use fleet_core::nats::{Names, NatsOptions, NatsSource, SourceOptions, Ticks};
use fleet_core::pipeline::{Pipeline, PipelineOptions};
use fleet_core::sink::{Progress, Sink};
use fleet_core::source::{Attach, Source, SourceEvent};
use fleet_core::{Micros, Schema, VehicleId};
use fleet_worker::clock::now;
use fleet_worker::lanes;
use futures_util::{FutureExt, StreamExt};
use tokio::runtime::{Builder, Runtime};

use super::meter::Meter;

/// What receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// async-nats, one subscription with a wildcard, whose messages are counted.
    Drain,
    /// The same, read in ticks as a lane does.
    GatheredDrain,
    /// Our reader, a subscription for each vehicle, whose messages are counted; read in ticks as a lane does.
    Reader,
    /// Our source, with all vehicles attached, whose events are counted.
    Source,
    /// The same without gathering wake-ups.
    Ungathered,
    /// A whole pipeline: source, decoder, aligner, batches; its sink takes them and keeps nothing.
    Pipeline,
}

impl Way {
    pub(super) const ALL: [Self; 6] =
        [Self::Drain, Self::GatheredDrain, Self::Reader, Self::Ungathered, Self::Source, Self::Pipeline];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Drain => "async-nats, one wildcard",
            Self::GatheredDrain => "async-nats, wake-ups gathered",
            Self::Reader => "reader alone",
            Self::Source => "source",
            Self::Ungathered => "source, wake-ups not gathered",
            Self::Pipeline => "pipeline without a database",
        }
    }
}

/// Where from, and whose messages.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub url: String,
    pub names: Names,
    pub schema: Schema,
    pub vehicles: Vec<VehicleId>,
    pub rate: f64,
}

/// Receives until the meter says that it is over; blocks.
pub(super) fn receive(way: Way, setting: &Setting, meter: &Arc<Meter>) {
    let ticks = Ticks::default();
    let runtime = match way {
        Way::Drain | Way::Ungathered => Builder::new_current_thread().enable_all().build().unwrap(),
        Way::GatheredDrain | Way::Reader => gathered(setting.rate),
        Way::Source | Way::Pipeline => lanes::runtime(&ticks).unwrap(),
    };
    runtime.block_on(async {
        let over = Arc::clone(meter).watch();
        match way {
            Way::Drain | Way::GatheredDrain => until(over, drain(setting, meter)).await,
            Way::Reader => until(over, reader(setting, meter)).await,
            Way::Source | Way::Ungathered => until(over, Box::pin(source(setting, meter, ticks))).await,
            Way::Pipeline => until(over, Box::pin(pipeline(setting, meter, ticks))).await,
        }
    });
    runtime.shutdown_background();
}

async fn until(over: impl Future<Output = ()>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = over => {}
        () = work => {}
    }
}

/// Sleeps before it waits, for as long as [`Ticks`] come to at that rate.
fn gathered(rate: f64) -> Runtime {
    let interval = Duration::from_secs_f64(30.0 / rate);
    let interval = interval.clamp(Duration::from_millis(1), Duration::from_millis(20));
    let woken = Mutex::new(Instant::now());
    let sleep = move || {
        let mut woken = woken.lock().unwrap();
        #[allow(clippy::disallowed_methods, reason = "blocking the thread is what it is for")]
        std::thread::sleep(interval.saturating_sub(woken.elapsed()));
        *woken = Instant::now();
    };
    Builder::new_current_thread().enable_all().on_thread_park(sleep).build().unwrap()
}

async fn drain(setting: &Setting, meter: &Meter) {
    let client = async_nats::connect(&setting.url).await.unwrap();
    let mut all = client.subscribe("fleet.0.>").await.unwrap();
    client.flush().await.unwrap();
    meter.is_ready();
    while let Some(message) = all.next().await {
        meter.took(1);
        meter.arrived(&message.payload);
    }
}

async fn reader(setting: &Setting, meter: &Meter) {
    let mut options = ReaderOptions::new(NatsOptions::new(&setting.url), "reader");
    options.headers = false;
    let mut reader = Reader::connect(options).await.unwrap();
    for vehicle in &setting.vehicles {
        reader.subscribe(&setting.names.vehicle(vehicle)).unwrap();
    }
    let known = reader.barrier();
    while !reader.has_passed(known) {
        reader.readable().await;
        reader.read().for_each(drop);
    }
    meter.is_ready();
    loop {
        let mut messages = 0;
        for read in reader.read() {
            match read {
                Read::Message(message) => {
                    messages += 1;
                    meter.arrived(message.payload);
                }
                Read::Event(event) => panic!("{event:?}"),
            }
        }
        meter.took(messages);
        tokio::task::yield_now().await;
        reader.readable().await;
    }
}

async fn connected(setting: &Setting, ticks: Ticks) -> NatsSource {
    let options = SourceOptions { ticks, ..SourceOptions::default() };
    let nats = NatsOptions::new(&setting.url);
    NatsSource::connect(&nats, &setting.names, &setting.schema, options).await.unwrap()
}

/// Messages that are taken at a time, as the pipeline does.
const GROUP: usize = 64;

async fn source(setting: &Setting, meter: &Meter, ticks: Ticks) {
    let mut source = connected(setting, ticks).await;
    let now = source.now();
    let attach = |(slot, vehicle): (u32, &VehicleId)| Attach {
        slot: Slot(slot),
        vehicle: vehicle.clone(),
        from: now,
        taken: None,
        on_time: now,
        stored_at: None,
    };
    source.attach((0..).zip(&setting.vehicles).map(attach).collect());
    let mut caught_up = 0;
    while caught_up < setting.vehicles.len() {
        if let SourceEvent::CaughtUp(slots) = source.next().await.unwrap() {
            caught_up += slots.len();
        }
    }
    meter.is_ready();
    loop {
        let (mut next, mut messages) = (Some(source.next().await.unwrap()), 0);
        while let Some(event) = next.take() {
            if let SourceEvent::Message(message) = event {
                messages += 1;
                meter.arrived(&message.payload);
            }
            if messages < GROUP as u64 {
                next = source.next().now_or_never().transpose().unwrap();
            }
        }
        meter.took(messages);
    }
}

async fn pipeline(setting: &Setting, meter: &Arc<Meter>, ticks: Ticks) {
    let source = connected(setting, ticks).await;
    let lane = Lane::with_built_ins(&setting.schema).unwrap();
    let (now, signals) = (now(), setting.schema.signals().len());
    let binding = |vehicle: &VehicleId| Binding {
        vehicle: vehicle.clone(),
        epoch: 1,
        start: now,
        on_time: now,
        floor: None,
        horizon: vec![None; signals],
        carry: None,
    };
    let all = setting.vehicles.iter().map(binding).collect();
    let vehicles = setting.vehicles.len();
    let options = PipelineOptions { max_vehicles: vehicles, ..PipelineOptions::default() };
    let received = source.counters();
    let pipeline = Pipeline::new(source, Given(Some(all)), Nothing { taken: 0 }, lane, options);
    let meter = Arc::clone(meter);
    tokio::spawn(async move {
        let mut catching_up = true;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            meter.has_taken(received.live.load(Ordering::Relaxed));
            // As long as nothing is there to be caught up, it is over at the first look after it began.
            if catching_up && received.rounds.load(Ordering::Relaxed) > 0 {
                catching_up = received.catching_up.vehicles() > 0;
                if !catching_up {
                    meter.is_ready();
                }
            }
        }
    });
    pipeline.run(std::future::pending()).await.unwrap();
}

/// A binder of vehicles that stay.
struct Given(Option<Vec<Binding>>);

impl Binder for Given {
    async fn next(&mut self, _free: usize) -> Result<BindEvent> {
        match self.0.take() {
            Some(all) => Ok(BindEvent::Bound(all)),
            None => std::future::pending().await,
        }
    }

    fn save(&mut self, _ticket: u64, _states: Vec<VehicleState>) {}

    fn hand_over(&mut self, _ticket: u64, _states: Vec<VehicleState>) {}

    fn release(&mut self, _state: VehicleState, _ended_at: Micros) {}

    fn next_trip(&mut self, _vehicle: VehicleId, _ended_at: Micros, _started_at: Micros) {}

    fn holds(&self) -> bool {
        true
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(30)
    }

    #[allow(clippy::unused_async, reason = "the trait's shape")]
    async fn shut_down(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A sink that takes all and keeps nothing.
struct Nothing {
    taken: u64,
}

impl Sink for Nothing {
    #[allow(clippy::unused_async, reason = "the trait's shape")]
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        self.taken = batch.sequence();
        Ok(Progress::up_to(self.taken))
    }

    #[allow(clippy::unused_async, reason = "the trait's shape")]
    async fn flush(&mut self) -> Result<Progress> {
        Ok(Progress::up_to(self.taken))
    }
}
