//! Joins the signals' rules to rows.

mod room;
mod rows;
mod samples;

use super::carry;
use super::methods::Methods;
use super::ring::Ring;
use super::rules::Rules;
use super::track::{NEVER, Snapshot, Track};
use crate::batch::Row;
use crate::hash::Fnv;
use crate::schema::{Problem, Schema};
use crate::time::Micros;

/// For how many contexts of server time a signal must be silent to count as dead, so that its last samples hold
/// `resume_at` back no longer. Ten are 1,000 s with the default signals: longer than one sensor's link is usually
/// cut, and short against the hours that the stream holds.
pub(super) const SILENCE: Micros = 10;

/// And how many contexts the vehicle as a whole may pause in that time. A longer pause is a time offline, after which
/// one signal's backlog comes after the other's: the silence of all begins anew with the return. Half the silence, so
/// that at least two messages of others came in it before the one that ends it.
pub(super) const PAUSE: Micros = SILENCE / 2;

/// Makes rows of samples. Shared by all vehicles of a lane and immutable; what belongs to one vehicle
/// is in its [`Track`].
///
/// The methods that emit give rows in the order of time within a call, corrections before new rows.
/// A row that says `correction` may be stored already; a new one was never emitted and is later than
/// the floor.
#[derive(Debug, Clone)]
pub struct Aligner {
    schema: Schema,
    rules: Box<[Rules]>,
    context: Micros,
    /// The shortest time that any signal is waited for; those that are never waited for don't count.
    shortest_wait: Micros,
    /// How many a row has.
    columns: usize,
    /// Of all that a track's samples and rows hang on.
    fingerprint: u64,
}

impl Aligner {
    /// An aligner for the schema's signals with the methods that they name.
    ///
    /// # Errors
    /// Every signal whose method is unknown or can't work on its columns, or whose samples find no room, all at
    /// once.
    pub fn new(schema: &Schema, methods: &Methods) -> Result<Self, Vec<Problem>> {
        let found = methods.resolve(schema)?;
        let (interval, window) = (schema.interval(), schema.window());
        let rules = found.into_iter().zip(schema.signals());
        let rules: Box<[Rules]> =
            rules.map(|(method, signal)| Rules::new(method, signal, interval, window)).collect();
        let context = rules.iter().map(|rules| rules.span).max().unwrap_or(0);
        let waits = rules.iter().filter(|rules| rules.is_waited_for());
        let shortest_wait = waits.map(|rules| rules.signal.signal_timeout).min().unwrap_or(Micros::MAX);
        let fingerprint = fingerprint(schema, &rules);
        let (schema, columns) = (schema.clone(), schema.column_count());
        Ok(Self { schema, rules, context, shortest_wait, columns, fingerprint })
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// How much event time around an instant can still change what is stored for it, microseconds.
    /// `window + max_gap + interval` where methods look at the next neighbours, and a `max_gap` more
    /// for each sample further.
    pub fn context(&self) -> Micros {
        self.context
    }

    /// After how much server time a silent signal, whose vehicle was there meanwhile, counts as dead and holds
    /// [`Snapshot::resume_at`] back no longer, microseconds.
    pub fn silence(&self) -> Micros {
        self.context.saturating_mul(SILENCE)
    }

    /// The state of a vehicle from which nothing has arrived here.
    ///
    /// `floor` and `horizon` are those of the [`Snapshot`] of an earlier holder, if there was one:
    /// rows up to `floor` come as corrections, and samples before their signal's `horizon` are not
    /// taken. `horizon` may be shorter than the schema. Then every message with an arrival from the
    /// snapshot's `resume_at` on must be inserted again, in the order of arrival.
    pub fn track(&self, floor: Option<Micros>, horizon: &[Option<Micros>]) -> Track {
        let known = horizon.iter().copied().chain(std::iter::repeat(None));
        let rings =
            self.rules.iter().zip(known).map(|(r, horizon)| Ring::new(r.signal.columns.len(), horizon));
        Track {
            rings: rings.collect(),
            frontier: NEVER,
            floor: floor.unwrap_or(NEVER),
            awake_from: NEVER,
            patience_from: NEVER,
            newest: NEVER,
            heard: NEVER,
            due: Micros::MAX,
            waits_for: None,
            given_up: 0,
            catching_up: false,
            carried: false,
        }
    }

    /// The track for the next holder, [`MAX_CARRY`] bytes at most; see [`carry`](super::carry) for their format.
    /// `None` where it takes more: the next holder replays.
    pub fn carry(&self, track: &Track) -> Option<Vec<u8>> {
        carry::write(self.fingerprint, track)
    }

    /// The track that [`carry`](Self::carry) was given, of an aligner with the same grid, signals and methods. `None`
    /// for any other bytes.
    ///
    /// Every message that came after that must be inserted, in the order of arrival; those from before may be, too.
    pub fn resume(&self, carry: &[u8]) -> Option<Track> {
        carry::read(carry, self.fingerprint, &self.schema)
    }

    /// Emits the rows that wait only for signals from which nothing has arrived for their `signal_timeout`,
    /// while others went on. `now` is server time. Not to be called during a catch-up.
    pub fn tick(&self, track: &mut Track, now: Micros, emit: &mut impl FnMut(Row<'_>)) {
        let mut given_up = track.given_up;
        let mut next = Micros::MAX;
        for (s, due) in self.dues(track) {
            if due <= now {
                given_up |= 1 << s;
            } else {
                next = next.min(due);
            }
        }
        track.due = next;
        if given_up != track.given_up {
            track.given_up = given_up;
            self.advance(track, Micros::MIN, emit);
        }
    }

    /// Whether patience with a signal ends by `now`, so that [`tick`](Self::tick) may have rows.
    pub(crate) fn is_due(&self, track: &Track, now: Micros) -> bool {
        self.dues(track).any(|(_, due)| due <= now)
    }

    /// When patience ends with each signal that is silent while others went on, and not given up yet.
    fn dues(&self, track: &Track) -> impl Iterator<Item = (u8, Micros)> {
        let silent = |(s, (rules, ring)): (u8, (&Rules, &Ring))| {
            let heard = ring.heard().filter(|heard| *heard < track.heard && !track.has_given_up(s))?;
            let due = heard.max(track.patience_from).saturating_add(rules.signal.signal_timeout);
            rules.is_waited_for().then_some((s, due))
        };
        (0..).zip(self.rules.iter().zip(&track.rings)).filter_map(silent)
    }

    /// Lets patience begin anew at `now`, server time; called after a catch-up.
    pub fn touch(&self, track: &mut Track, now: Micros) {
        track.patience_from = track.patience_from.max(now);
        track.wait_for_all();
        track.due = track.due.min(track.patience_from.saturating_add(self.shortest_wait));
    }

    /// Emits all rows up to the last sample of any signal, waiting for nothing. The track stays
    /// usable; later samples give further rows and corrections.
    pub fn finish(&self, track: &mut Track, emit: &mut impl FnMut(Row<'_>)) {
        self.advance(track, Micros::MAX, emit);
    }

    /// What another worker needs to go on from here. Forgets what nothing can need any more.
    pub fn snapshot(&self, track: &mut Track) -> Snapshot {
        for s in 0..track.rings.len() {
            self.prune(track, s);
            track.rings[s].recover(self.schema.window());
        }
        let behind = |newest: Micros| newest.saturating_add(1);
        let needed = |s: usize, ring: &Ring| !self.is_past(track, s, ring);
        let rings = || track.rings.iter().enumerate();
        let held = rings().filter(|(s, ring)| needed(*s, ring));
        let horizon =
            rings().map(|(s, ring)| if needed(s, ring) { ring.horizon() } else { ring.newest().map(behind) });
        Snapshot {
            resume_at: held.filter_map(|(_, ring)| ring.earliest_arrival()).min(),
            floor: Some(track.frontier.max(track.floor)).filter(|floor| *floor != NEVER),
            horizon: horizon.collect(),
            newest: track.rings.iter().map(Ring::known_newest).collect(),
        }
    }

    /// Whether a signal's samples can change nothing any more: what is within the window of the vehicle's newest
    /// sample lies beyond a gap that nothing bridges, and the rows that hang on them are emitted.
    ///
    /// Older samples may still come from a sensor that was cut off alone, or while a vehicle is coming back from a time
    /// offline: the signal must have been silent for [`SILENCE`] since it was heard and since the vehicle's last pause
    /// of more than [`PAUSE`].
    fn is_past(&self, track: &Track, s: usize, ring: &Ring) -> bool {
        let (Some(newest), Some(heard)) = (ring.newest(), ring.heard()) else { return false };
        let silent = track.heard.saturating_sub(heard.max(track.awake_from));
        silent > self.silence()
            && self.rules[s].is_past(newest, track.newest)
            && self.rules[s].last_row(newest) <= track.frontier
    }
}

/// A hash of what must be the same for a track to be of use to another aligner.
fn fingerprint(schema: &Schema, rules: &[Rules]) -> u64 {
    let mut all = format!("{} {}", schema.interval(), schema.window());
    for rules in rules {
        all.push_str(&rules.to_string());
    }
    Fnv::of(all.as_bytes())
}
