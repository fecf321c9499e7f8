//! A fleet at the default pace and a lane that holds it, the same in every run.

use bytes::Bytes;
use fleet_core::bind::Binding;
use fleet_core::decode::frame::encode;
use fleet_core::ids::{SignalIndex, Slot};
use fleet_core::lane::Lane;
use fleet_core::message::{Message, Topic};
use fleet_core::sample::Samples;
use fleet_core::schema::RecordsConfig;
use fleet_core::time::SECOND;
use fleet_core::{Micros, Schema, VehicleId};

/// Seconds between the samples of position, speed, fuel and brake, give or take 40 %: 20 messages a
/// minute.
const PACES: [f64; 4] = [7.5, 10.0, 30.0, 15.0];

pub(crate) const START: Micros = 1_780_000_000 * SECOND;

/// splitmix64, <https://prng.di.unimi.it/splitmix64.c>
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}

/// The sensors of all vehicles.
pub(crate) struct Fleet {
    pub(crate) schema: Schema,
    dice: Dice,
    /// By vehicle and signal: when it sends next, and its counter.
    sensors: Vec<[(Micros, u16); 4]>,
    /// By second, turning: the sensors that send in it.
    wheel: Vec<Vec<(u32, SignalIndex)>>,
}

/// Seconds of the wheel: more than any pause.
const WHEEL: i64 = 64;

impl Fleet {
    pub(crate) fn new(schema: &Schema, vehicles: u32) -> Self {
        let mut dice = Dice(1);
        let mut wheel = vec![Vec::new(); WHEEL as usize];
        let mut sensors = Vec::new();
        for vehicle in 0..vehicles {
            sensors.push(PACES.map(|pace| (START + (pace * dice.share() * 1e6) as Micros, 0)));
            for (index, _) in schema.indexed() {
                let (next, _) = sensors[vehicle as usize][index.index()];
                wheel[((next - START) / SECOND) as usize].push((vehicle, index));
            }
        }
        Self { schema: schema.clone(), dice, sensors, wheel }
    }

    /// The messages of one second after the start, in the order of arrival.
    pub(crate) fn second(&mut self, second: i64) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut payloads = Vec::new();
        for (vehicle, index) in std::mem::take(&mut self.wheel[(second % WHEEL) as usize]) {
            let signal = self.schema.signal(index);
            let (time, sequence) = &mut self.sensors[vehicle as usize][index.index()];
            let mut samples = Samples::new(signal.columns.len());
            // Near each other, as of one vehicle on its way.
            let near = 10.0 + f64::from(vehicle % 40);
            let values: Vec<f64> = signal.columns.iter().map(|_| near + 1e-3 * self.dice.share()).collect();
            samples.push(*time / 1_000 * 1_000, &values);
            let from = payloads.len();
            encode(signal, *sequence, &samples, &mut payloads).unwrap();
            messages.push((*time + 50_000, Slot(vehicle), index, from..payloads.len()));
            *sequence = sequence.wrapping_add(1);
            *time += (PACES[index.index()] * (0.6 + 0.8 * self.dice.share()) * 1e6) as Micros;
            self.wheel[((*time - START) / SECOND % WHEEL) as usize].push((vehicle, index));
        }
        messages.sort_unstable_by_key(|message| message.0);
        // As they come out of a socket: in one buffer.
        let buffer = Bytes::from(payloads);
        let message = |(arrival, slot, index, range)| Message {
            slot,
            topic: Topic::Signal(index),
            payload: buffer.slice(range),
            arrival,
            live: true,
        };
        messages.into_iter().map(message).collect()
    }
}

/// The scenario's signals, for all of which records wait for as long as that.
pub(crate) fn patient(patience: &str) -> Schema {
    let mut config = RecordsConfig { patience: patience.to_owned(), ..RecordsConfig::default() };
    config.signal.iter_mut().for_each(|signal| signal.signal_timeout = None);
    config.build().unwrap()
}

pub(crate) fn lane(schema: &Schema, vehicles: u32) -> Lane {
    let mut lane = Lane::with_built_ins(schema).unwrap();
    for v in 0..vehicles {
        let vehicle = VehicleId::new(&format!("WVWZZZ1KZ8W{v:06}")).unwrap();
        let binding = Binding {
            vehicle,
            epoch: 1,
            start: START,
            on_time: START,
            floor: None,
            horizon: Vec::new(),
            carry: None,
        };
        let slot = lane.bind(&binding);
        lane.caught_up(slot, START);
    }
    lane
}

/// Feeds the messages of a second and lets time pass four times, as the driver does before it seals.
pub(crate) fn feed(lane: &mut Lane, messages: &[Message]) {
    let quarter = |message: &Message| message.arrival / 250_000;
    for group in messages.chunk_by(|a, b| quarter(a) == quarter(b)) {
        let now = group[group.len() - 1].arrival;
        lane.messages(group);
        lane.tick(now);
    }
}
