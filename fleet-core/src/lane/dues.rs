//! When what is due for which vehicle.

use crate::ids::Slot;
use crate::time::Micros;

/// By slot the time at which a vehicle is due. A search passes over all that are not, a block of blocks at a
/// time: it costs what is due and one number for each 1,024 vehicles.
#[derive(Debug, Default)]
pub(crate) struct Dues {
    times: Vec<Micros>,
    /// By block of slots: no time in it is earlier. A time that is set lowers it, and nothing raises it before
    /// a search comes to the block.
    blocks: Vec<Micros>,
    /// By block of blocks, the same.
    regions: Vec<Micros>,
}

/// The time of a vehicle that is never due.
pub(crate) const NEVER_DUE: Micros = Micros::MAX;

/// How many slots are a block, and how many blocks a region.
const BLOCK: usize = 32;

impl Dues {
    /// Makes room for a slot that has none. Nothing is due of it.
    pub(crate) fn extend(&mut self, slot: Slot) {
        let slots = self.times.len().max(slot.index() + 1);
        super::extend(&mut self.times, slots, || NEVER_DUE);
        super::extend(&mut self.blocks, slots.div_ceil(BLOCK), || NEVER_DUE);
        super::extend(&mut self.regions, self.blocks.len().div_ceil(BLOCK), || NEVER_DUE);
    }

    pub(crate) fn set(&mut self, slot: Slot, due: Micros) {
        let Some(time) = self.times.get_mut(slot.index()) else { return };
        *time = due;
        let block = slot.index() / BLOCK;
        if due < self.blocks[block] {
            self.blocks[block] = due;
            let region = &mut self.regions[block / BLOCK];
            *region = due.min(*region);
        }
    }

    /// Appends the slots whose time has come, in their order. They are due until another time is set.
    pub(crate) fn collect(&mut self, now: Micros, slots: &mut Vec<Slot>) {
        // What is never due is not due at the end of time either.
        let now = now.min(NEVER_DUE - 1);
        for (r, region) in self.regions.iter_mut().enumerate().filter(|(_, region)| **region <= now) {
            *region = NEVER_DUE;
            for (b, block) in self.blocks.iter_mut().enumerate().skip(r * BLOCK).take(BLOCK) {
                if *block <= now {
                    let first = b * BLOCK;
                    let times = &self.times[first..self.times.len().min(first + BLOCK)];
                    *block = times.iter().copied().min().unwrap_or(NEVER_DUE);
                    let due = times.iter().enumerate().filter(|(_, time)| **time <= now);
                    slots.extend(due.map(|(place, _)| Slot::at(first + place)));
                }
                *region = (*block).min(*region);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_slots_whose_time_has_come() {
        let mut dues = Dues::default();
        let mut slots = Vec::new();
        for slot in 0..100 {
            dues.extend(Slot(slot));
            dues.set(Slot(slot), if slot % 40 == 3 { Micros::from(slot) } else { Micros::MAX });
        }
        dues.set(Slot(99), Micros::MIN);
        for (now, want) in [
            (Micros::MIN, vec![99]),
            (2, vec![99]),
            (3, vec![3, 99]),
            (82, vec![3, 43, 99]),
            (83, vec![3, 43, 83, 99]),
        ] {
            slots.clear();
            dues.collect(now, &mut slots);
            assert_eq!(slots, want.into_iter().map(Slot).collect::<Vec<_>>(), "at {now}");
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Extend(u32),
        Set(u32, Micros),
        Collect(Micros),
    }

    fn step() -> impl Strategy<Value = Step> {
        let slot = 0..5_000_u32;
        let time = prop_oneof![8 => 0..1_000_i64, 1 => Just(NEVER_DUE), 1 => Just(Micros::MIN)];
        prop_oneof![
            1 => slot.clone().prop_map(Step::Extend),
            16 => (slot, time.clone()).prop_map(|(slot, time)| Step::Set(slot, time)),
            4 => time.prop_map(Step::Collect),
        ]
    }

    proptest! {
        #[test]
        fn it_finds_what_a_plain_list_finds_and_looks_nowhere_else(steps in prop::collection::vec(step(), 1..400)) {
            let (mut dues, mut plain) = (Dues::default(), Vec::<Micros>::new());
            for step in steps {
                match step {
                    Step::Extend(slot) => {
                        dues.extend(Slot(slot));
                        plain.resize(plain.len().max(slot as usize + 1), NEVER_DUE);
                    }
                    Step::Set(slot, time) => {
                        dues.set(Slot(slot), time);
                        plain.iter_mut().skip(slot as usize).take(1).for_each(|there| *there = time);
                    }
                    Step::Collect(now) => {
                        let is_due = |time: &Micros| *time <= now && *time != NEVER_DUE;
                        let mut found = Vec::new();
                        dues.collect(now, &mut found);
                        let want = plain.iter().enumerate().filter(|(_, time)| is_due(time));
                        prop_assert_eq!(found, want.map(|(slot, _)| Slot::at(slot)).collect::<Vec<_>>());
                        // After a search only those blocks are searched again in which something is due.
                        for (level, size) in [(&dues.blocks, BLOCK), (&dues.regions, BLOCK * BLOCK)] {
                            prop_assert_eq!(level.len(), plain.len().div_ceil(size));
                            for (bound, times) in level.iter().zip(plain.chunks(size)) {
                                prop_assert_eq!(is_due(bound), times.iter().any(is_due));
                            }
                        }
                    }
                }
            }
        }
    }
}
