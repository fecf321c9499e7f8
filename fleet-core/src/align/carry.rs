//! A track as bytes, so that the next holder of the vehicle goes on where this one stopped.
//!
//! # Format
//!
//! Version 1, little-endian, [`MAX_CARRY`] bytes at most. A *time* is an `i64` in microseconds, `i64::MIN` for
//! none; a *varint* is LEB128; a *zigzag* is a varint of a signed number, 0, -1, 1, -2, ….
//!
//! | part | bytes |
//! |---|---|
//! | version | `u8` |
//! | fingerprint of the aligner: grid, window, and each signal's name, method, gap and columns | `u64` |
//! | last grid instant that was emitted; last one that an earlier holder emitted (event time) | 2 times |
//! | last arrival of any message; since when silence counts; return from the last pause (server time) | 3 times |
//! | a bit for each signal that is not waited for | `u32` |
//! | per signal, in the schema's order: | |
//! | – bit 0: samples were dropped for want of room; bit 1: there is a frame counter | `u8` |
//! | – event time from which on all samples are there; last arrival (server time) | 2 times |
//! | – the last frame's counter and arrival (seconds of server time), if bit 1 is set | `u16`, `u32` |
//! | – number of samples; how many there is room for; at which place in it the oldest lies | 3 varints |
//! | – each sample: time, as the first one's time or as the distance from the one before | time or varint |
//! | – – a value for each column | `f64` each |
//! | – – earliest arrival in seconds of server time, as the distance from the one before, or from 0 | zigzag |
//!
//! Nothing that is read is trusted: [`read`] takes only what [`write`] can have made of a track of the same
//! aligner.

use super::ring::Ring;
use super::sequence::Sequence;
use super::track::{NEVER, Track};
use crate::schema::{Schema, Signal};
use crate::time::{Micros, SECOND, YEAR_2000, YEAR_2200};

/// Bytes of a carry at most. Four signals at the scenario's pace take about 600.
pub const MAX_CARRY: usize = 16 << 10;

const VERSION: u8 = 1;

const OVERFLOWED: u8 = 1;
const COUNTED: u8 = 2;

/// The track as bytes; `None` for one that is too long.
pub(super) fn write(fingerprint: u64, track: &Track) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(1024);
    out.push(VERSION);
    out.extend(fingerprint.to_le_bytes());
    for time in [track.frontier, track.floor, track.heard, track.patience_from, track.awake_from] {
        out.extend(time.to_le_bytes());
    }
    out.extend(track.given_up.to_le_bytes());
    for ring in &track.rings {
        write_ring(&mut out, ring);
        if out.len() > MAX_CARRY {
            return None;
        }
    }
    Some(out)
}

fn write_ring(out: &mut Vec<u8>, ring: &Ring) {
    let counter = ring.sequence.last();
    let overflowed = if ring.overflowed { OVERFLOWED } else { 0 };
    out.push(overflowed | if counter.is_some() { COUNTED } else { 0 });
    for time in [ring.horizon(), ring.heard()] {
        out.extend(time.unwrap_or(NEVER).to_le_bytes());
    }
    if let Some((counter, arrival)) = counter {
        out.extend(counter.to_le_bytes());
        out.extend(arrival.to_le_bytes());
    }
    let (room, first) = ring.room();
    let (room, first) = if room <= Ring::most_room(ring.len()) { (room, first) } else { (ring.len(), 0) };
    [ring.len(), room, first].into_iter().for_each(|number| write_varint(out, number as u64));
    let (mut before, mut arrived) = (None, 0);
    for (sample, arrival) in ring.samples() {
        match before {
            None => out.extend(sample.time.to_le_bytes()),
            Some(before) => write_varint(out, sample.time.abs_diff(before)),
        }
        (0..ring.columns()).for_each(|column| out.extend(sample.value(column).to_le_bytes()));
        let since = i64::from(arrival) - i64::from(arrived);
        write_varint(out, (since << 1 ^ since >> 63).cast_unsigned());
        (before, arrived) = (Some(sample.time), arrival);
    }
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// The track that these bytes were made of, if they were made of one of an aligner with this fingerprint.
pub(super) fn read(bytes: &[u8], fingerprint: u64, schema: &Schema) -> Option<Track> {
    if bytes.len() > MAX_CARRY {
        return None;
    }
    let mut input = Input(bytes);
    if input.take()? != [VERSION] || u64::from_le_bytes(input.take()?) != fingerprint {
        return None;
    }
    let (frontier, floor) = (input.time()?, input.time()?);
    let (heard, patience_from, awake_from) = (input.time()?, input.time()?, input.time()?);
    let given_up = u32::from_le_bytes(input.take()?);
    let rings = schema.signals().iter().map(|signal| read_ring(&mut input, signal, schema.max_samples()));
    let rings: Box<[Ring]> = rings.collect::<Option<_>>()?;
    let newest = rings.iter().filter_map(Ring::newest).max().unwrap_or(NEVER);
    let on_grid = frontier == NEVER || frontier.rem_euclid(schema.interval()) == 0;
    let as_made = on_grid
        && frontier <= newest
        && given_up.checked_shr(u32::try_from(rings.len()).ok()?).unwrap_or(0) == 0
        && input.0.is_empty();
    as_made.then_some(Track {
        rings,
        frontier,
        newest,
        heard,
        patience_from,
        // The next tick finds out.
        due: Micros::MIN,
        waits_for: None,
        catching_up: false,
        carried: true,
        given_up,
        floor,
        awake_from,
    })
}

fn read_ring(input: &mut Input<'_>, signal: &Signal, most: usize) -> Option<Ring> {
    let [flags] = input.take()?;
    if flags & !(OVERFLOWED | COUNTED) != 0 {
        return None;
    }
    let (horizon, heard) = (input.time()?, input.time()?);
    let sequence = if flags & COUNTED == 0 {
        Sequence::default()
    } else {
        Sequence::after(u16::from_le_bytes(input.take()?), u32::from_le_bytes(input.take()?))
    };
    let columns = signal.columns.len();
    let (many, room, first) = (input.count()?, input.count()?, input.count()?);
    // Each takes more bytes than its values have: no room is made for what can't be there.
    let can_be = many <= input.0.len() / (columns * size_of::<f64>()) && room <= Ring::most_room(many);
    if !can_be || many > room || room > most || first >= room.max(1) {
        return None;
    }
    let mut ring = Ring::with_room(columns, (horizon != NEVER).then_some(horizon), room, first);
    ring.hear(heard);
    ring.sequence = sequence;
    ring.overflowed = flags & OVERFLOWED != 0;
    let (mut values, mut arrived) = (vec![0.0; columns], 0);
    for _ in 0..many {
        let time = match ring.newest() {
            None => input.time()?,
            Some(before) => before.checked_add_unsigned(input.varint()?)?,
        };
        let follows = ring.newest().is_none_or(|before| before < time);
        if !follows || time < horizon || !(YEAR_2000..YEAR_2200).contains(&time) {
            return None;
        }
        for (value, column) in values.iter_mut().zip(&signal.columns) {
            *value = f64::from_le_bytes(input.take()?);
            if !(column.min..=column.max).contains(value) {
                return None;
            }
        }
        let since = input.varint()?;
        arrived = i64::checked_add(arrived, (since >> 1).cast_signed() ^ -(since & 1).cast_signed())?;
        let arrival = Micros::from(u32::try_from(arrived).ok()?) * SECOND;
        ring.insert(ring.len(), time, &values, arrival, most);
    }
    Some(ring)
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    /// One that a clock can say, or [`NEVER`].
    fn time(&mut self) -> Option<Micros> {
        let time = Micros::from_le_bytes(self.take()?);
        (time == NEVER || (YEAR_2000..YEAR_2200).contains(&time)).then_some(time)
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.take()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
