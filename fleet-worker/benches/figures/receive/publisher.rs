//! Publishes samples of many vehicles at a rate, without asking whether they are stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fleet_core::decode::frame::encode;
use fleet_core::nats::reader::{Reader, ReaderOptions};
use fleet_core::nats::{Names, NatsOptions};
use fleet_core::sample::Samples;
use fleet_core::{Schema, VehicleId};
use fleet_worker::clock::now;

/// What is due in that time is sent together: little enough that the receiver's wake-ups are not gathered by the sender.
const TICK: Duration = Duration::from_micros(100);

/// How long after the time of publication, in microseconds modulo this, a latitude says: it has so many steps.
pub(super) const LATITUDES: i64 = 800_000_000;

/// A thread that publishes until it is dropped.
pub(super) struct Publisher {
    published: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    pub(super) fn start(
        url: &str,
        names: &Names,
        schema: &Schema,
        vehicles: &[VehicleId],
        rate: f64,
    ) -> Self {
        let (published, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let mut fleet = Fleet::new(names, schema, vehicles);
        let (url, counter, ended) = (url.to_owned(), Arc::clone(&published), Arc::clone(&over));
        let publish = async move {
            let options = ReaderOptions::new(NatsOptions::new(url), "publisher");
            let mut reader = Reader::connect(options).await.unwrap();
            let begun = Instant::now();
            let mut sent = 0_u64;
            while !ended.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * rate) as u64;
                while sent < due && fleet.publish(&mut reader) {
                    sent += 1;
                }
                counter.store(sent, Ordering::Relaxed);
                reader.read().for_each(drop);
                tokio::task::yield_now().await;
                #[allow(clippy::disallowed_methods, reason = "a thread of its own, and finer than a timer")]
                std::thread::sleep(TICK);
            }
        };
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(publish);
        });
        Self { published, over, thread: Some(thread) }
    }

    /// How many messages it has sent.
    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Vehicles that send in turns, each its signals in turns.
struct Fleet {
    schema: Schema,
    subjects: Vec<String>,
    sequences: Vec<u16>,
    /// How many messages there were.
    sent: usize,
    samples: Samples,
    payload: Vec<u8>,
}

impl Fleet {
    fn new(names: &Names, schema: &Schema, vehicles: &[VehicleId]) -> Self {
        let signals = schema.signals();
        let subjects: Vec<String> =
            signals.iter().flat_map(|s| vehicles.iter().map(|v| names.subject(v, &s.name))).collect();
        let sequences = vec![0; subjects.len()];
        Self {
            schema: schema.clone(),
            subjects,
            sequences,
            sent: 0,
            samples: Samples::default(),
            payload: Vec::new(),
        }
    }

    /// Publishes the next message; says whether the connection takes it.
    fn publish(&mut self, reader: &mut Reader) -> bool {
        let signals = self.schema.signals().len();
        let vehicles = self.subjects.len() / signals;
        let (vehicle, round) = (self.sent % vehicles, self.sent / vehicles);
        // Neighbours send different signals, so that at any time there are some of each.
        let signal = (vehicle + round) % signals;
        let place = signal * vehicles + vehicle;
        let signal = &self.schema.signals()[signal];
        let time = now();
        let values = match signal.columns.len() {
            2 => [(time % LATITUDES) as f64 / 1e7, 11.5],
            _ => [(vehicle % 100) as f64, 0.0],
        };
        self.samples.reset(signal.columns.len());
        self.samples.push(time - time.rem_euclid(1_000), &values[..signal.columns.len()]);
        self.payload.clear();
        encode(signal, self.sequences[place], &self.samples, &mut self.payload).unwrap();
        let taken = reader.publish(&self.subjects[place], None, &self.payload).is_ok();
        if taken {
            self.sequences[place] = self.sequences[place].wrapping_add(1);
            self.sent += 1;
        }
        taken
    }
}
