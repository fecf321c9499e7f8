//! What there is to tell, in order; of a vehicle that is detached before its turn comes nothing is told.

use std::collections::VecDeque;

use super::attachments::{Attachments, Ticket};
use crate::source::SourceEvent;

#[derive(Debug, Default)]
pub(super) struct Ready(VecDeque<Happened>);

#[derive(Debug)]
enum Happened {
    To(Ticket, SourceEvent),
    CaughtUp(Vec<Ticket>),
}

impl Ready {
    pub(super) fn push(&mut self, ticket: Ticket, event: SourceEvent) {
        self.0.push_back(Happened::To(ticket, event));
    }

    pub(super) fn caught_up(&mut self, tickets: Vec<Ticket>) {
        self.0.push_back(Happened::CaughtUp(tickets));
    }

    /// The next event of those that are still attached.
    pub(super) fn next(&mut self, vehicles: &Attachments) -> Option<SourceEvent> {
        loop {
            match self.0.pop_front()? {
                Happened::To(ticket, event) if vehicles.get(ticket).is_some() => return Some(event),
                Happened::To(..) => {}
                Happened::CaughtUp(tickets) => {
                    let still = tickets.into_iter().filter(|ticket| vehicles.get(*ticket).is_some());
                    let slots: Vec<_> = still.map(|ticket| ticket.slot).collect();
                    if !slots.is_empty() {
                        return Some(SourceEvent::CaughtUp(slots));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Slot, VehicleId};
    use crate::nats::source::vehicle::Attached;
    use crate::source::Attach;

    #[test]
    fn nothing_is_told_of_a_vehicle_that_is_detached_or_of_the_one_before_it() {
        let (mut vehicles, mut ready) = (Attachments::default(), Ready::default());
        let attach = |vehicles: &mut Attachments, slot| {
            let vehicle = VehicleId::new("V").unwrap();
            vehicles.attach(
                slot,
                Attached::new(Attach { slot, vehicle, from: 0, taken: None, on_time: 0, stored_at: None }, 1),
            )
        };
        let (gone, stays) = (attach(&mut vehicles, Slot(0)), attach(&mut vehicles, Slot(1)));
        ready.push(gone, SourceEvent::Settled(Slot(0)));
        ready.caught_up(vec![gone, stays]);
        ready.caught_up(vec![gone]);
        ready.push(stays, SourceEvent::Settled(Slot(1)));
        vehicles.detach(Slot(0));
        let next = attach(&mut vehicles, Slot(0));
        ready.push(next, SourceEvent::Settled(Slot(0)));
        let told: Vec<_> = std::iter::from_fn(|| ready.next(&vehicles)).map(|e| format!("{e:?}")).collect();
        assert_eq!(told, ["CaughtUp([Slot(1)])", "Settled(Slot(1))", "Settled(Slot(0))"]);
    }
}
