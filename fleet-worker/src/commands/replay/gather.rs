//! The samples of a replay, gathered by vehicle and put in the order of their times: what came too late
//! for a worker is in its place here.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::ops::Range;

use fleet_core::align::Aligner;
use fleet_core::batch::Row;
use fleet_core::decode::{AnyDecoder, DecodeError, Decoder, check};
use fleet_core::ids::SignalIndex;
use fleet_core::sample::Samples;
use fleet_core::{Micros, Schema, VehicleId};

/// Whose rows are derived anew, and of which span of event time.
#[derive(Debug, Clone, Default)]
pub(super) struct Spans {
    /// Of all vehicles that are not in `each`.
    pub all: Option<Range<Micros>>,
    /// Of single vehicles.
    pub each: BTreeMap<VehicleId, Range<Micros>>,
}

impl Spans {
    pub(super) fn of(&self, vehicle: &VehicleId) -> Option<&Range<Micros>> {
        self.each.get(vehicle).or(self.all.as_ref())
    }

    /// Where the first of them begins.
    pub(super) fn first(&self) -> Option<Micros> {
        self.each.values().chain(&self.all).map(|span| span.start).min()
    }

    /// The vehicles, if it is not all.
    pub(super) fn vehicles(&self) -> Vec<VehicleId> {
        if self.all.is_some() { Vec::new() } else { self.each.keys().cloned().collect() }
    }

    /// The same spans of these vehicles only.
    pub(super) fn only(&self, vehicles: impl IntoIterator<Item = VehicleId>) -> Self {
        let each = vehicles.into_iter().filter_map(|v| Some((v.clone(), self.of(&v)?.clone())));
        Self { all: None, each: each.collect() }
    }
}

/// A part of all vehicles: those whose hash ends in these bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    mask: u64,
    bits: u64,
}

impl Group {
    pub(super) const ALL: Self = Self { mask: 0, bits: 0 };

    fn has(self, vehicle: &VehicleId) -> bool {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(vehicle);
        hash & self.mask == self.bits
    }

    fn halves(self) -> [Self; 2] {
        let (mask, bit) = (self.mask << 1 | 1, self.mask + 1);
        [Self { mask, bits: self.bits }, Self { mask, bits: self.bits | bit }]
    }
}

/// What was gathered of one vehicle.
#[derive(Debug)]
struct Gathered {
    /// By signal.
    samples: Vec<Samples>,
    /// The first sample after all that matters: it says that the vehicle's records go on.
    beyond: Option<(SignalIndex, Micros, Vec<f64>)>,
}

/// Gathers messages; see [`derive`](Self::derive).
pub(super) struct Gather<'a> {
    aligner: &'a Aligner,
    spans: &'a Spans,
    group: Group,
    /// Samples at most.
    room: usize,
    vehicles: BTreeMap<VehicleId, Gathered>,
    held: usize,
    buffer: Samples,
}

impl<'a> Gather<'a> {
    /// Of the vehicles of a group, as many samples as there is room for.
    pub(super) fn new(aligner: &'a Aligner, spans: &'a Spans, group: Group, room: usize) -> Self {
        Self { aligner, spans, group, room, vehicles: BTreeMap::new(), held: 0, buffer: Samples::default() }
    }

    fn schema(&self) -> &'a Schema {
        self.aligner.schema()
    }

    /// Takes what a message has for the spans; says whether that was anything. What can't be decoded was
    /// refused when it came, and is again.
    pub(super) fn take(
        &mut self,
        vehicle: &VehicleId,
        signal: SignalIndex,
        payload: &[u8],
        stored: Micros,
    ) -> bool {
        let Some(span) = self.spans.of(vehicle).filter(|_| self.group.has(vehicle)) else { return false };
        // What is refused was refused by the worker too, and is among the dead letters.
        let _ = read(self.schema(), signal, payload, stored, &mut self.buffer);
        let context = self.aligner.context();
        let (from, to) = (span.start.saturating_sub(context), span.end.saturating_add(context));
        let mut matters = false;
        for (time, values) in self.buffer.iter().filter(|(time, _)| *time >= from) {
            let gathered = match self.vehicles.get_mut(vehicle) {
                Some(gathered) => gathered,
                None => self.vehicles.entry(vehicle.clone()).or_insert_with(|| Gathered {
                    samples: self
                        .aligner
                        .schema()
                        .signals()
                        .iter()
                        .map(|s| Samples::new(s.columns.len()))
                        .collect(),
                    beyond: None,
                }),
            };
            if time > to {
                if gathered.beyond.as_ref().is_none_or(|(_, first, _)| time < *first) {
                    gathered.beyond = Some((signal, time, values.to_vec()));
                }
                continue;
            }
            matters = true;
            if let Some(samples) = gathered.samples.get_mut(signal.index()) {
                samples.push(time, values);
                self.held += 1;
            }
        }
        matters
    }

    /// Where there is no room for all, drops half of the vehicles; they are to be gathered after these.
    pub(super) fn set_aside(&mut self) -> Option<Group> {
        if self.held <= self.room || self.vehicles.len() < 2 {
            return None;
        }
        let [kept, aside] = self.group.halves();
        self.group = kept;
        self.vehicles.retain(|vehicle, _| kept.has(vehicle));
        self.held = self.vehicles.values().flat_map(|v| &v.samples).map(Samples::len).sum();
        Some(aside)
    }

    /// The vehicles of which something matters.
    pub(super) fn vehicles(&self) -> Vec<VehicleId> {
        let some = self.vehicles.iter().filter(|(_, v)| v.samples.iter().any(|s| !s.is_empty()));
        some.map(|(vehicle, _)| vehicle.clone()).collect()
    }

    /// The rows of a vehicle within its span, each as often as it is emitted.
    pub(super) fn derive(&self, vehicle: &VehicleId, mut emit: impl FnMut(Row<'_>)) {
        let (Some(gathered), Some(span)) = (self.vehicles.get(vehicle), self.spans.of(vehicle)) else {
            return;
        };
        let mut all: Vec<(Micros, SignalIndex, &[f64])> = Vec::new();
        for ((signal, _), samples) in self.schema().indexed().zip(&gathered.samples) {
            all.extend(samples.iter().map(|(time, values)| (time, signal, values)));
        }
        all.extend(gathered.beyond.iter().map(|(signal, time, values)| (*time, *signal, &values[..])));
        all.sort_by_key(|(time, signal, _)| (*time, signal.0));
        let mut track = self.aligner.track(None, &[]);
        let mut within = |row: Row<'_>| {
            if span.contains(&row.ts) {
                emit(Row { correction: false, ..row });
            }
        };
        let mut one = Samples::default();
        for (time, signal, values) in all {
            one.reset(values.len());
            one.push(time, values);
            self.aligner.insert(&mut track, signal, &one, time, &mut within);
        }
        self.aligner.finish(&mut track, &mut within);
    }
}

/// A message's samples, as a worker takes them that gets it at `stored`.
///
/// # Errors
/// What is wrong with the message, or with the first sample that is refused; the others are there.
pub(super) fn read(
    schema: &Schema,
    signal: SignalIndex,
    payload: &[u8],
    stored: Micros,
    samples: &mut Samples,
) -> Result<(), DecodeError> {
    let spec = schema.signal(signal);
    samples.reset(spec.columns.len());
    if let Err(error) = AnyDecoder.decode(spec, payload, samples) {
        samples.reset(spec.columns.len());
        return Err(error);
    }
    check(schema, signal, samples, stored).first.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fleet_core::align::Methods;
    use fleet_core::batch::Record;
    use fleet_core::reference;
    use fleet_core::schema::RecordsConfig;
    use fleet_core::time::SECOND;

    use super::*;

    const NOON: Micros = 1_769_947_200 * SECOND;

    fn aligner() -> Aligner {
        let schema: RecordsConfig = toml::from_str(
            "interval = \"10s\"\nwindow = \"30s\"\n\
             [[signal]]\nname = \"a\"\ninterpolation = \"previous\"\nmax_gap = \"100s\"\n\
             columns = [{ name = \"a\", unit = \"1\", min = 0, max = 1000 }]\n\
             [[signal]]\nname = \"b\"\ninterpolation = \"pchip\"\nmax_gap = \"40s\"\n\
             columns = [{ name = \"b\", unit = \"1\", min = 0, max = 1000 }]",
        )
        .unwrap();
        Aligner::new(&schema.build().unwrap(), &Methods::default()).unwrap()
    }

    fn vehicle(n: usize) -> VehicleId {
        VehicleId::new(&format!("V{n}")).unwrap()
    }

    type Row3 = (VehicleId, Micros, Record);

    /// All rows, gathered in as many passes as it takes.
    fn derived(
        aligner: &Aligner,
        spans: &Spans,
        messages: &[(usize, u8, Micros, u32)],
        room: usize,
    ) -> Vec<Row3> {
        let (mut groups, mut rows, mut passes) = (vec![Group::ALL], Vec::new(), 0);
        while let Some(group) = groups.pop() {
            passes += 1;
            let mut gather = Gather::new(aligner, spans, group, room);
            for (v, signal, time, value) in messages {
                let payload = format!("{{\"ts\":{},\"value\":{value}}}", time / 1_000);
                gather.take(&vehicle(*v), SignalIndex(*signal), payload.as_bytes(), NOON + 86_400 * SECOND);
                groups.extend(gather.set_aside());
            }
            for vehicle in gather.vehicles() {
                let mut own: BTreeMap<Micros, Record> = BTreeMap::new();
                gather.derive(&vehicle, |row| {
                    let record = own.entry(row.ts).or_insert_with(|| Record::empty(aligner.schema()));
                    record.merge(aligner.schema(), &row);
                });
                rows.extend(own.into_iter().map(|(ts, record)| (vehicle.clone(), ts, record)));
            }
        }
        assert_eq!(passes > 1, room < messages.len(), "{passes} passes");
        rows.sort_by_key(|(vehicle, ts, _)| (vehicle.clone(), *ts));
        rows
    }

    /// Messages in any order, of all times; within the span the rows are those of the reference.
    #[test]
    fn rows_are_those_of_all_samples_whatever_is_left_out_of_memory() {
        let aligner = aligner();
        let mut seed = 1_u64;
        let mut below = |limit: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % limit
        };
        for _ in 0..40 {
            let messages: Vec<_> = (0..200)
                .map(|_| {
                    let time = NOON + below(2_000).cast_signed() * SECOND;
                    (below(7) as usize, below(2) as u8, time, below(1_000) as u32)
                })
                .collect();
            let span = NOON + 700 * SECOND..NOON + 1_300 * SECOND;
            let spans = Spans { all: Some(span.clone()), ..Spans::default() };
            let mut expected = Vec::new();
            for v in 0..7 {
                let mut samples = vec![reference::Samples::new(); 2];
                for (_, signal, time, value) in messages.iter().filter(|message| message.0 == v) {
                    reference::add(&mut samples[usize::from(*signal)], *time, &[f64::from(*value)]);
                }
                let table = reference::table(aligner.schema(), &samples);
                expected.extend(table.into_iter().map(|(ts, record)| (vehicle(v), ts, record)));
            }
            expected.retain(|(_, ts, _)| span.contains(ts));
            for room in [1_000, 30] {
                let rows = derived(&aligner, &spans, &messages, room);
                assert_eq!(rows.len(), expected.len());
                for (row, wanted) in rows.iter().zip(&expected) {
                    let close = |(a, b): (&Option<f64>, &Option<f64>)| match (a, b) {
                        (Some(a), Some(b)) => (a - b).abs() < 1e-9,
                        (a, b) => a == b,
                    };
                    let same = row.2.values.iter().zip(&wanted.2.values).all(close);
                    assert!(
                        (&row.0, row.1, row.2.quality) == (&wanted.0, wanted.1, wanted.2.quality) && same
                    );
                }
            }
        }
    }
}
