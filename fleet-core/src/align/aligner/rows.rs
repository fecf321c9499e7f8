//! Puts rows together, and tells how far they go.

use super::Aligner;
use crate::align::track::Track;
use crate::batch::Row;
use crate::schema::{MAX_COLUMNS, MAX_SIGNALS};
use crate::time::{Micros, grid_at_or_after, grid_at_or_before};

/// A row with so many columns is put together in little memory, any other in much.
const FEW: usize = 16;
const MOST: usize = MAX_SIGNALS * MAX_COLUMNS;

impl Aligner {
    /// Emits each row up to the frontier that hangs on one of the samples at `times`, sorted, once.
    pub(super) fn correct(
        &self,
        track: &mut Track,
        s: usize,
        times: &[Micros],
        emit: &mut impl FnMut(Row<'_>),
    ) {
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
    pub(super) fn advance(&self, track: &mut Track, until: Micros, emit: &mut impl FnMut(Row<'_>)) {
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

    /// Rows up to there wait for nothing, or samples that they need would be forgotten.
    pub(super) fn pruned_soon(&self, newest: Micros) -> Micros {
        newest.saturating_sub(self.schema.window()).saturating_sub(self.schema.interval())
    }

    /// Up to which instant, `t` or a later one, rows wait for nothing; or a signal that the row at `t`
    /// waits for: of several the one with the fewest samples, whose next one is likely the last to come.
    fn complete_until(&self, track: &Track, t: Micros) -> Result<Micros, u8> {
        let (mut until, mut fewest, mut waited) = (Micros::MAX, usize::MAX, None);
        for (s, (rules, ring)) in (0..).zip(self.rules.iter().zip(&track.rings)) {
            match rules.complete_until(ring, t) {
                _ if track.has_given_up(s) || !rules.is_waited_for() => {}
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
}
