//! When time has to pass for which vehicle.

use crate::ids::Slot;
use crate::time::Micros;

/// By slot: before that server time a tick has nothing to do. Apart from the vehicles, of which nearly
/// all can be passed over.
#[derive(Debug, Default)]
pub(super) struct Dues(Vec<Micros>);

/// Beyond any server time, and so near that differences don't overflow.
const FAR: Micros = Micros::MAX / 4;

/// How many vehicles are passed over at once.
const BLOCK: usize = 32;

impl Dues {
    /// Makes room for a slot, whose time is now.
    pub(super) fn extend(&mut self, slot: Slot) {
        super::extend(&mut self.0, slot.index() + 1, || -FAR);
    }

    pub(super) fn set(&mut self, slot: Slot, due: Micros) {
        if let Some(there) = self.0.get_mut(slot.index()) {
            *there = due.clamp(-FAR, FAR);
        }
    }

    /// Appends the slots whose time has come, in their order.
    pub(super) fn collect(&self, now: Micros, slots: &mut Vec<Slot>) {
        let later = now.clamp(-FAR, FAR) + 1;
        for (block, dues) in self.0.chunks(BLOCK).enumerate() {
            // The sign of all differences together, which takes no branch and is done by vectors.
            if dues.iter().fold(0, |signs, due| signs | (due - later)) >= 0 {
                continue;
            }
            #[allow(clippy::cast_possible_truncation, reason = "fewer than 2^32 vehicles")]
            let slots_of_block = (block * BLOCK..).map(|slot| Slot(slot as u32));
            slots.extend(slots_of_block.zip(dues).filter(|(_, due)| **due < later).map(|(slot, _)| slot));
        }
    }
}

#[cfg(test)]
mod tests {
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
}
