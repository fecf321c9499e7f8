//! Takes samples in, and tells which rows may have become complete or have changed by them.

use super::{Aligner, PAUSE};
use crate::align::changed::{Changed, PIECE};
use crate::align::ring::{Merged, Ring};
use crate::align::rules::Rules;
use crate::align::track::{Inserted, NEVER, Track};
use crate::batch::Row;
use crate::ids::SignalIndex;
use crate::sample::Samples;
use crate::time::Micros;

impl Aligner {
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
            self.go_on(track, s, emit);
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
                // It isn't late, and no holder before this one used it, if this one has dropped what was needed.
                done.replayed += usize::from(!ring.overflowed);
                done.overflowed += usize::from(ring.overflowed);
                done.short_of_room |= ring.overflowed;
                continue;
            }
            if !self.has_room(track, s) {
                self.settle(track, s, samples, &mut changed, emit);
                self.prune(track, s);
                if !self.make_room(track, s, time, done, emit) {
                    continue;
                }
                position = track.rings[s].count_before(time);
            }
            changed.corrects |= self.next_after(track, s, time).is_none();
            let ring = &mut track.rings[s];
            // All before is settled. The oldest of a full ring is where the new sample goes, in memory
            // that is near.
            if let Some(newest) = ring.newest().filter(|_| changed.bits == 0 && ring.is_full()) {
                ring.prune_gently(|samples| self.rules[s].is_spent(samples, newest));
                position = ring.count_before(time);
            }
            ring.insert(position, time, values, arrival, self.schema.max_samples());
            track.newest = track.newest.max(time);
            done.taken += 1;
            changed.push(i);
        }
        self.settle(track, s, samples, &mut changed, emit);
    }

    /// Takes a sample in the order of time that changes no row, if it is such, as most are: all that
    /// [`insert`](Self::insert) asks for others is known of it.
    fn append(&self, track: &mut Track, s: usize, time: Micros, values: &[f64], arrival: Micros) -> bool {
        let Some(newest) = self.next_after(track, s, time) else { return false };
        let ring = &mut track.rings[s];
        if ring.is_full() {
            ring.prune_gently(|samples| self.rules[s].is_spent(samples, newest));
            if !self.has_room(track, s) {
                return false;
            }
        }
        let ring = &mut track.rings[s];
        ring.insert(ring.len(), time, values, arrival, self.schema.max_samples());
        track.newest = track.newest.max(time);
        true
    }

    /// The signal's newest sample, if one at `time` comes after it, in the order of time and after the
    /// newest row: there is nothing to correct then.
    fn next_after(&self, track: &Track, s: usize, time: Micros) -> Option<Micros> {
        let newest = track.rings[s].newest().filter(|newest| *newest < time && *newest >= track.frontier);
        newest.filter(|_| self.rules[s].reach.after <= 1)
    }

    /// Notes an arrival of any signal: patience with the others that are silent ends no sooner than it
    /// would after the earlier of the two latest.
    fn hear(&self, track: &mut Track, arrival: Micros) {
        if arrival.saturating_sub(track.heard) > self.context.saturating_mul(PAUSE) {
            track.awake_from = arrival;
        }
        if track.heard != NEVER {
            let earlier = arrival.min(track.heard).max(track.patience_from);
            track.due = track.due.min(earlier.saturating_add(self.shortest_wait));
        }
        track.heard = track.heard.max(arrival);
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
        self.go_on(track, s, emit);
    }

    /// Emits what became complete by a sample of signal `s`.
    fn go_on(&self, track: &mut Track, s: usize, emit: &mut impl FnMut(Row<'_>)) {
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
        let is_there = |(other, (rules, ring)): (u8, (&Rules, &Ring))| {
            let waited =
                usize::from(other) != s.index() && rules.is_waited_for() && !track.has_given_up(other);
            !waited || ring.newest().is_none_or(|newest| newest >= next)
        };
        (past || (track.waits_for(s) && (0..).zip(self.rules.iter().zip(&track.rings)).all(is_there)))
            .then_some(past)
    }

    /// Forgets the samples that nothing can need any more; all that was inserted is settled.
    pub(super) fn prune(&self, track: &mut Track, s: usize) {
        let ring = &mut track.rings[s];
        if let Some(newest) = ring.newest() {
            ring.prune(|samples| self.rules[s].is_spent(samples, newest));
        }
    }
}
