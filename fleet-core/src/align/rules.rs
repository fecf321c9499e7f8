//! One signal's part in rows: when it is complete, what its value is, which rows a sample changes.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::interpolator::{At, Interpolator, Reach};
use super::ring::Ring;
use super::view::View;
use crate::batch::Quality;
use crate::schema::Signal;
use crate::time::Micros;

/// What the aligner knows of a signal.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    method: Arc<dyn Interpolator>,
    pub(super) reach: Reach,
    keeps_hits: bool,
    interval: Micros,
    window: Micros,
    /// How long before its newest sample a signal's samples can be needed at most.
    pub(super) span: Micros,
    /// How long before its newest sample something can still be new: a late sample, or a row.
    recent: Micros,
    /// How many samples older than that can be needed at most, the newest ones.
    older: usize,
    pub(super) signal: Signal,
}

impl Rules {
    pub(super) fn new(
        method: Arc<dyn Interpolator>,
        signal: &Signal,
        interval: Micros,
        window: Micros,
    ) -> Self {
        let reach = method.reach(interval);
        // A late sample changes rows from `after` gaps before it on. These look back by `before`
        // gaps, of which the row itself lies in the first if nothing else is looked back to.
        let looks_back = usize::from(reach.look_back > 0);
        let around = reach.before.saturating_add(reach.after).saturating_add(looks_back).saturating_sub(1);
        let neighbours = around.max(reach.before).max(1);
        let most = gaps(neighbours).saturating_mul(signal.max_gap);
        let recent = window.saturating_add(interval);
        let span = recent.saturating_add(most);
        // With more than one neighbour before an instant a replay must know where their row of gaps
        // ends, and looking back takes any number.
        let older = if reach.before <= 1 && reach.look_back == 0 { neighbours } else { usize::MAX };
        let keeps_hits = method.keeps_hits();
        Self { method, reach, keeps_hits, interval, window, span, recent, older, signal: signal.clone() }
    }

    /// Whether rows wait for its samples at all.
    pub(super) fn is_waited_for(&self) -> bool {
        self.signal.signal_timeout > 0
    }

    /// Whether nothing can need the oldest of the samples any more, if all that came is settled.
    pub(super) fn is_spent(&self, samples: View<'_>, newest: Micros) -> bool {
        let is_before =
            |position, back| samples.time(position).is_some_and(|time| time < newest.saturating_sub(back));
        is_before(self.older, self.recent)
            || is_before(0, self.span)
            || (self.older == usize::MAX && self.has_neighbours_without_oldest(samples, newest))
    }

    /// The same by the samples themselves where any number of them may be needed: whether the earliest row that
    /// can still change finds all its neighbours behind the oldest sample, as those of a fast sensor do.
    fn has_neighbours_without_oldest(&self, samples: View<'_>, newest: Micros) -> bool {
        let Reach { before, after, look_back } = self.reach;
        let latest = newest.saturating_sub(self.recent).saturating_sub(look_back);
        // With more neighbours than two a replay must know more of the gaps between them.
        if before > 2 || samples.time(before).is_none_or(|time| time > latest) {
            return false;
        }
        // A late sample changes rows from `after` samples before it on.
        let earliest = newest.saturating_sub(self.window);
        let from = match after {
            0 => Some(earliest),
            _ => samples.count_before(earliest).checked_sub(after).and_then(|first| samples.time(first)),
        };
        let from = from.map(|from| from.saturating_add(i64::from(after > 0)).saturating_sub(look_back));
        from.is_some_and(|from| samples.time(before).is_some_and(|time| time <= from))
    }

    /// Whether no sample that is within the window of the vehicle's newest can be joined to one at `newest`, the
    /// signal's last.
    pub(super) fn is_past(&self, newest: Micros, of_vehicle: Micros) -> bool {
        let chain = gaps(self.reach.before.saturating_sub(1).max(1)).saturating_mul(self.signal.max_gap);
        newest.saturating_add(chain) < of_vehicle.saturating_sub(self.window)
    }

    /// No row after it hangs on a sample at `newest` and older ones, as long as nothing is joined to them.
    pub(super) fn last_row(&self, newest: Micros) -> Micros {
        let held =
            if self.reach.after == 0 { self.signal.max_gap.saturating_add(self.reach.look_back) } else { 0 };
        newest.saturating_add(held)
    }

    fn is_gap(&self, earlier: Option<Micros>, later: Option<Micros>) -> bool {
        earlier.zip(later).is_some_and(|(earlier, later)| later.saturating_sub(earlier) > self.signal.max_gap)
    }

    /// Up to which instant, `t` or a later one, no further sample is waited for: the ones after it are
    /// there, or a gap makes them useless, or the signal is silent. `None`: at `t` one is waited for.
    pub(super) fn complete_until(&self, ring: &Ring, t: Micros) -> Option<Micros> {
        let Some(newest) = ring.newest().filter(|_| self.reach.after > 0) else { return Some(Micros::MAX) };
        // The two usual answers need no look at the samples.
        if newest < t {
            return (t.saturating_sub(newest) > self.signal.max_gap).then_some(Micros::MAX);
        }
        if self.reach.after <= 1 {
            return Some(newest);
        }
        let view = ring.view();
        let next = view.count_before(t);
        let there = view.len() - next >= self.reach.after
            || next == 0
            || (self.keeps_hits && view.time(next) == Some(t))
            || (next..view.len()).any(|i| self.is_gap(view.time(i - 1), view.time(i)));
        there.then_some(t)
    }

    /// Whether a sample exactly on `t` is its value, whatever the others say.
    pub(super) fn is_hit(&self, ring: &Ring, t: Micros) -> bool {
        let view = ring.view();
        self.keeps_hits && view.time(view.count_before(t)) == Some(t)
    }

    /// The value at `t`, or `None` where there is none or the ring no longer holds all it hangs on.
    pub(super) fn value(&self, ring: &mut Ring, t: Micros, out: &mut [f64]) -> Option<Quality> {
        let view = ring.around(t);
        let before = view.before();
        let quality = self.value_of(view, ring.horizon(), t, out);
        ring.keep_place(before);
        quality
    }

    fn value_of(
        &self,
        view: View<'_>,
        horizon: Option<Micros>,
        t: Micros,
        out: &mut [f64],
    ) -> Option<Quality> {
        if self.keeps_hits
            && let Some(hit) = view.hit()
        {
            for (column, out) in out.iter_mut().enumerate() {
                *out = hit.value(column);
            }
            return Some(Quality::Measured);
        }
        if horizon.is_some_and(|horizon| !self.is_covered(view, t, horizon)) {
            return None;
        }
        let (max_gap, columns) = (self.signal.max_gap, &*self.signal.columns);
        let at = At { t, max_gap, interval: self.interval, columns };
        let quality = self.method.value(view, at, out)?;
        (quality != Quality::Missing && !out.iter().any(|v| v.is_nan())).then_some(quality)
    }

    /// Whether every sample that the value at `t` may hang on is in the ring, even if the gap that
    /// seems to end its context is bridged yet: in a replay its samples may be still to come.
    fn is_covered(&self, view: View<'_>, t: Micros, horizon: Micros) -> bool {
        let before = match self.reach.look_back {
            0 => view.before(),
            back => view.count_before(t.saturating_sub(back).saturating_add(1)),
        };
        let Some(mut oldest) = before.checked_sub(1) else { return self.reach.before == 0 };
        let mut missing = self.reach.before.saturating_sub(1);
        while missing > 0 && oldest > 0 && !self.is_gap(view.time(oldest - 1), view.time(oldest)) {
            oldest -= 1;
            missing -= 1;
        }
        let reach = gaps(missing).saturating_mul(self.signal.max_gap);
        missing == 0 || view.time(oldest).is_some_and(|oldest| oldest.saturating_sub(reach) >= horizon)
    }

    /// The instants whose value may hang on the sample at `position`.
    pub(super) fn touched(&self, ring: &Ring, position: usize) -> Option<RangeInclusive<Micros>> {
        let view = ring.view();
        let time = view.time(position)?;
        let mut first = position;
        for _ in 0..self.reach.after {
            match first.checked_sub(1) {
                Some(left) if !self.is_gap(view.time(left), view.time(first)) => first = left,
                _ => break,
            }
        }
        // From the sample `after` places before on, that one is needed no more.
        let from = if first == position { time } else { view.time(first)?.saturating_add(1) };
        let mut last = position;
        for _ in 0..self.reach.before {
            if last + 1 < view.len() && !self.is_gap(view.time(last), view.time(last + 1)) {
                last += 1;
                continue;
            }
            let end = view.time(last)?;
            let held = if self.reach.after == 0 { self.signal.max_gap } else { 0 };
            return Some(from..=end.saturating_add(held).saturating_add(self.reach.look_back));
        }
        let end = view.time(last)?.max(time.saturating_add(1)).saturating_sub(1);
        Some(from..=end.saturating_add(self.reach.look_back))
    }

    /// The first instant after `t` at which the signal may have a value, or be waited for if that
    /// is after `forced`. Only asked where it has no value at `t`.
    pub(super) fn next_concern(&self, ring: &Ring, t: Micros, forced: Micros) -> Option<Micros> {
        let view = ring.view();
        let soon = t.saturating_add(1);
        let next = view.count_before(soon);
        let following = view.time(next);
        let Some(last) = next.checked_sub(1).and_then(|i| view.time(i)) else { return following };
        let end = last.saturating_add(self.signal.max_gap).saturating_add(self.reach.look_back);
        if self.reach.after == 0 {
            return if t < end { Some(soon) } else { following };
        }
        match following {
            Some(_) if !self.is_gap(Some(last), following) => Some(soon),
            Some(following) => Some(following),
            None => Some(soon.max(forced.saturating_add(1))).filter(|&t| t <= end),
        }
    }
}

/// What rows hang on beside the samples.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Signal { name, interpolation, max_gap, columns, .. } = &self.signal;
        write!(f, "; {name} {interpolation} {max_gap} {:?} {}", self.reach, self.keeps_hits)?;
        columns.iter().try_for_each(|c| write!(f, ", {} {} {} {}", c.name, c.min, c.max, c.wraps))
    }
}

fn gaps(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
