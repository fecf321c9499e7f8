//! Joins the signals' rules to rows.

use super::changed::{Changed, PIECE};
use super::methods::Methods;
use super::ring::{Merged, Ring};
use super::rules::Rules;
use super::track::{Inserted, NEVER, Snapshot, Track};
use crate::batch::Row;
use crate::ids::SignalIndex;
use crate::sample::Samples;
use crate::schema::{MAX_COLUMNS, MAX_SIGNALS, Problem, Schema};
use crate::time::{Micros, grid_at_or_after, grid_at_or_before};

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
    /// How many a row has.
    columns: usize,
}

/// A row with so many columns is put together in little memory, any other in much.
const FEW: usize = 16;
const MOST: usize = MAX_SIGNALS * MAX_COLUMNS;

impl Aligner {
    /// An aligner for the schema's signals with the methods that they name.
    ///
    /// # Errors
    /// Every signal whose method is unknown or can't work on its columns, all at once.
    pub fn new(schema: &Schema, methods: &Methods) -> Result<Self, Vec<Problem>> {
        let found = methods.resolve(schema)?;
        let (interval, window) = (schema.interval(), schema.window());
        let rules = found.into_iter().zip(schema.signals());
        let rules = rules.map(|(method, signal)| Rules::new(method, signal, interval, window));
        Ok(Self { schema: schema.clone(), rules: rules.collect(), columns: schema.column_count() })
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// How much event time around an instant can still change what is stored for it, microseconds.
    /// `window + max_gap + interval` where methods look at the next neighbours, and a `max_gap` more
    /// for each sample further.
    pub fn context(&self) -> Micros {
        self.rules.iter().map(|rules| rules.span).max().unwrap_or(0)
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
            patience_from: NEVER,
            newest: NEVER,
            heard: NEVER,
            due: Micros::MAX,
            waits_for: None,
            given_up: 0,
            catching_up: false,
        }
    }

    /// Takes the samples of one message, whose ranges and times are checked already, and emits the
    /// rows that became complete and those that changed. `arrival` is server time.
    ///
    /// Messages come in the order of arrival; one from before the last of its signal is read again, in
    /// a catch-up or an audit, and what of it has left the ring is not late but was taken before.
    ///
    /// Samples with another number of columns than the signal are not taken at all.
    pub fn insert(
        &self,
        track: &mut Track,
        signal: SignalIndex,
        samples: &Samples,
        arrival: Micros,
        emit: &mut impl FnMut(Row<'_>),
    ) -> Inserted {
        let mut done = Inserted::default();
        let s = signal.index();
        let again = match track.rings.get_mut(s) {
            Some(ring) if ring.columns() == samples.columns() && s < self.rules.len() => {
                let again = ring.heard().is_some_and(|heard| arrival < heard);
                ring.hear(arrival);
                if !again {
                    track.given_up &= !(1 << s);
                }
                again
            }
            _ => return done,
        };
        self.hear(track, arrival);
        if samples.only().is_some_and(|(time, values)| self.append(track, s, time, values, arrival)) {
            done.taken = 1;
            if !self.waits_on(track, s) {
                self.advance(track, Micros::MIN, emit);
            }
        } else {
            self.insert_each(track, s, samples, (arrival, again), &mut done, emit);
        }
        done
    }

    /// The samples of a message one by one, whatever they are. Apart from the usual way, so that its
    /// code stays short.
    #[cold]
    fn insert_each(
        &self,
        track: &mut Track,
        s: usize,
        samples: &Samples,
        (arrival, again): (Micros, bool),
        done: &mut Inserted,
        emit: &mut impl FnMut(Row<'_>),
    ) {
        let mut changed = Changed::default();
        for (i, (time, values)) in samples.iter().enumerate() {
            if i - changed.first == PIECE {
                self.settle(track, s, samples, &mut changed, emit);
                changed.first = i;
            }
            let ring = &mut track.rings[s];
            let mut position = ring.count_before(time);
            let known = position < ring.len() && ring.view().time(position) == Some(time);
            let forgotten = ring.horizon().is_some_and(|horizon| time < horizon);
            let too_late = ring.newest().is_some_and(|n| time < n.saturating_sub(self.schema.window()));
            if forgotten && again {
                done.replayed += 1;
                continue;
            }
            if too_late && !(known && ring.says(position, values)) {
                done.late.push(i);
                continue;
            }
            if known {
                let merged = ring.merge(position, values, arrival);
                done.duplicates += 1;
                done.conflicts += usize::from(merged != Merged::Same);
                if merged == Merged::Replaced {
                    changed.push(i);
                    changed.corrects = true;
                }
                continue;
            }
            if forgotten {
                done.replayed += 1;
                continue;
            }
            if ring.len() >= self.schema.max_samples() {
                self.settle(track, s, samples, &mut changed, emit);
                self.prune(track, s);
                if !self.make_room(track, s, time, done, emit) {
                    continue;
                }
                position = track.rings[s].count_before(time);
            }
            let ring = &mut track.rings[s];
            let newest = ring.newest();
            // All before is settled. The oldest of a full ring is where the new sample goes, in memory
            // that is near.
            if let Some(newest) = newest.filter(|_| changed.bits == 0 && ring.is_full()) {
                ring.prune_gently(|samples| self.rules[s].is_spent(samples, newest));
                position = ring.count_before(time);
            }
            ring.insert(position, time, values, arrival);
            track.newest = track.newest.max(time);
            done.taken += 1;
            changed.push(i);
            // In the order of time, after the newest row: nothing to correct.
            let after = newest.is_some_and(|newest| newest < time && newest >= track.frontier);
            changed.corrects |= !(after && self.rules[s].reach.after <= 1);
        }
        self.settle(track, s, samples, &mut changed, emit);
    }

    /// Takes a sample in the order of time that changes no row, if it is such, as most are: all that
    /// [`insert`](Self::insert) asks for others is known of it.
    fn append(&self, track: &mut Track, s: usize, time: Micros, values: &[f64], arrival: Micros) -> bool {
        let (ring, rules) = (&mut track.rings[s], &self.rules[s]);
        let newest = ring.newest().filter(|newest| *newest < time && *newest >= track.frontier);
        let Some(newest) = newest.filter(|_| rules.reach.after <= 1) else { return false };
        if ring.is_full() {
            if ring.len() >= self.schema.max_samples() {
                return false;
            }
            ring.prune_gently(|samples| rules.is_spent(samples, newest));
        }
        ring.insert(ring.len(), time, values, arrival);
        track.newest = track.newest.max(time);
        true
    }

    /// Notes an arrival of any signal: patience with the others that are silent ends no sooner than it
    /// would after the earlier of the two latest.
    fn hear(&self, track: &mut Track, arrival: Micros) {
        if track.heard != NEVER {
            let earlier = arrival.min(track.heard).max(track.patience_from);
            track.due = track.due.min(earlier.saturating_add(self.schema.patience()));
        }
        track.heard = track.heard.max(arrival);
    }

    /// Drops a full ring's oldest sample after the rows that need it; `false` if `time` would be the
    /// oldest, so that it is the one to go.
    fn make_room(
        &self,
        track: &mut Track,
        s: usize,
        time: Micros,
        done: &mut Inserted,
        emit: &mut impl FnMut(Row<'_>),
    ) -> bool {
        let ring = &mut track.rings[s];
        if ring.len() < self.schema.max_samples() {
            return true;
        }
        done.overflowed += 1;
        if ring.oldest().is_none_or(|oldest| time < oldest) {
            ring.raise_horizon(time.saturating_add(1));
            return false;
        }
        let reach = self.rules[s].reach;
        let free_from = ring.view().time(reach.before).or(ring.newest()).unwrap_or(time);
        let until = free_from.saturating_add(reach.look_back).saturating_sub(1);
        self.advance(track, until, emit);
        track.rings[s].drop_oldest();
        true
    }

    /// Emits what the signal's changed samples change, and then what became complete.
    fn settle(
        &self,
        track: &mut Track,
        s: usize,
        samples: &Samples,
        changed: &mut Changed,
        emit: &mut impl FnMut(Row<'_>),
    ) {
        if changed.bits == 0 {
            return;
        }
        if changed.corrects {
            let mut times = [0; PIECE];
            self.correct(track, s, changed.times(samples, &mut times), emit);
        }
        *changed = Changed { first: changed.first, ..Changed::default() };
        if !self.waits_on(track, s) {
            self.advance(track, Micros::MIN, emit);
        }
    }

    /// Whether the row after the frontier surely waits on, whatever signal `s` has got.
    fn waits_on(&self, track: &Track, s: usize) -> bool {
        let Some(next) = track.frontier().and_then(|frontier| frontier.checked_add(self.schema.interval()))
        else {
            return false;
        };
        let others = track.waits_for.is_some_and(|other| usize::from(other) != s);
        next > track.newest || (others && next > self.pruned_soon(track.newest))
    }

    /// Whether the next sample of signal `s` probably gives rows, and if so, whether these are past ones
    /// that went without it; a guess.
    pub(crate) fn foresees_rows(&self, track: &Track, s: SignalIndex) -> Option<bool> {
        let past = track.rings.get(s.index())?.newest().is_some_and(|newest| newest < track.frontier);
        let next = track.frontier.saturating_add(self.schema.interval());
        let is_there = |(other, ring): (u8, &Ring)| {
            let waited = usize::from(other) != s.index() && !track.has_given_up(other);
            !waited || ring.newest().is_none_or(|newest| newest >= next)
        };
        (past || (track.waits_for(s) && (0..).zip(&track.rings).all(is_there))).then_some(past)
    }

    /// Rows up to there wait for nothing, or samples that they need would be forgotten.
    fn pruned_soon(&self, newest: Micros) -> Micros {
        newest.saturating_sub(self.schema.window()).saturating_sub(self.schema.interval())
    }

    /// Forgets the samples that nothing can need any more; all that was inserted is settled.
    fn prune(&self, track: &mut Track, s: usize) {
        let ring = &mut track.rings[s];
        if let Some(newest) = ring.newest() {
            ring.prune(|samples| self.rules[s].is_spent(samples, newest));
        }
    }

    /// Emits each row up to the frontier that hangs on one of the samples at `times`, sorted, once.
    fn correct(&self, track: &mut Track, s: usize, times: &[Micros], emit: &mut impl FnMut(Row<'_>)) {
        let Some(frontier) = track.frontier() else { return };
        let interval = self.schema.interval();
        let mut from = Micros::MIN;
        for &time in times {
            let ring = &track.rings[s];
            let Some(touched) = self.rules[s].touched(ring, ring.view().count_before(time)) else { continue };
            let mut t = grid_at_or_after((*touched.start()).max(from), interval);
            while t <= frontier.min(*touched.end()) {
                let changes = !self.rules[s].is_hit(&track.rings[s], t) || times.binary_search(&t).is_ok();
                if changes {
                    self.emit(track, t, true, emit);
                }
                from = t.saturating_add(1);
                match t.checked_add(interval) {
                    Some(next) => t = next,
                    None => return,
                }
            }
        }
    }

    /// Emits the rows after the frontier for as long as they wait for nothing, as those up to `until`.
    fn advance(&self, track: &mut Track, until: Micros, emit: &mut impl FnMut(Row<'_>)) {
        let interval = self.schema.interval();
        let Some(newest) = track.newest() else { return };
        let limit = grid_at_or_before(newest, interval);
        let until = until.max(self.pruned_soon(newest));
        track.waits_for = None;
        let first = match track.frontier() {
            Some(frontier) => frontier.checked_add(interval),
            None => track.oldest().map(|oldest| grid_at_or_after(oldest, interval)),
        };
        let mut next = first;
        let mut complete = until;
        while let Some(t) = next.filter(|&t| t <= limit) {
            if t > complete {
                match self.complete_until(track, t) {
                    Ok(instant) => complete = instant,
                    Err(signal) => return track.waits_for = Some(signal),
                }
            }
            track.frontier = t;
            next = t.checked_add(interval);
            if self.emit(track, t, false, emit) {
                continue;
            }
            // Nobody has a value: on to the next instant that matters to anybody.
            let concerns = self.rules.iter().zip(&track.rings);
            let concern = concerns.filter_map(|(r, ring)| r.next_concern(ring, t, until)).min();
            let jump = concern.map_or(limit.saturating_add(1), |c| grid_at_or_after(c, interval));
            if jump > limit {
                track.frontier = limit;
                return;
            }
            track.frontier = jump.saturating_sub(interval);
            next = Some(jump);
        }
    }

    /// Up to which instant, `t` or a later one, rows wait for nothing; or a signal that the row at `t`
    /// waits for: of several the one with the fewest samples, whose next one is likely the last to come.
    fn complete_until(&self, track: &Track, t: Micros) -> Result<Micros, u8> {
        let (mut until, mut fewest, mut waited) = (Micros::MAX, usize::MAX, None);
        for (s, (rules, ring)) in (0..).zip(self.rules.iter().zip(&track.rings)) {
            match rules.complete_until(ring, t) {
                _ if track.has_given_up(s) => {}
                Some(instant) => until = until.min(instant),
                None if ring.len() < fewest => (fewest, waited) = (ring.len(), Some(s)),
                None => {}
            }
        }
        waited.map_or(Ok(until), Err)
    }

    /// Emits the row at `t`, if any signal has a value there.
    fn emit(&self, track: &mut Track, t: Micros, again: bool, emit: &mut impl FnMut(Row<'_>)) -> bool {
        // On the stack, where it is near; a row of most schemas is small.
        match self.columns {
            columns @ ..=FEW => self.emit_from(track, t, again, &mut [f64::NAN; FEW][..columns], emit),
            columns => self.emit_from(track, t, again, &mut [f64::NAN; MOST][..columns], emit),
        }
    }

    fn emit_from(
        &self,
        track: &mut Track,
        t: Micros,
        again: bool,
        row: &mut [f64],
        emit: &mut impl FnMut(Row<'_>),
    ) -> bool {
        let mut quality = 0;
        let mut rest = &mut *row;
        for (s, (rules, ring)) in self.rules.iter().zip(&mut track.rings).enumerate() {
            let Some((out, after)) = rest.split_at_mut_checked(rules.signal.columns.len()) else { break };
            match rules.value(ring, t, out) {
                Some(how) => quality |= how.at(s),
                None => out.fill(f64::NAN),
            }
            rest = after;
        }
        if quality == 0 {
            return false;
        }
        emit(Row { ts: t, values: row, quality, correction: again || t <= track.floor });
        true
    }

    /// Emits the rows that wait only for signals from which nothing has arrived for `patience`,
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
        let silent = |(s, ring): (u8, &Ring)| {
            let heard = ring.heard().filter(|heard| *heard < track.heard && !track.has_given_up(s))?;
            Some((s, heard.max(track.patience_from).saturating_add(self.schema.patience())))
        };
        (0..).zip(&track.rings).filter_map(silent)
    }

    /// Lets patience begin anew at `now`, server time; called after a catch-up.
    pub fn touch(&self, track: &mut Track, now: Micros) {
        track.patience_from = track.patience_from.max(now);
        track.wait_for_all();
        track.due = track.due.min(track.patience_from.saturating_add(self.schema.patience()));
    }

    /// Emits all rows up to the last sample of any signal, waiting for nothing. The track stays
    /// usable; later samples give further rows and corrections.
    pub fn finish(&self, track: &mut Track, emit: &mut impl FnMut(Row<'_>)) {
        self.advance(track, Micros::MAX, emit);
    }

    /// What another worker needs to go on from here. Forgets what nothing can need any more.
    pub fn snapshot(&self, track: &mut Track) -> Snapshot {
        (0..track.rings.len()).for_each(|s| self.prune(track, s));
        Snapshot {
            resume_at: track.rings.iter().filter_map(Ring::earliest_arrival).min(),
            floor: Some(track.frontier.max(track.floor)).filter(|floor| *floor != NEVER),
            horizon: track.rings.iter().map(Ring::horizon).collect(),
            newest: track.rings.iter().map(Ring::newest).collect(),
        }
    }
}
