//! What must have been visible of each fault while it lasted.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::hostile::Attack;
use crate::journal::Happened;
use crate::plan::{Blow, Fault, Harm, Link, Pod, Scene};
use crate::watch::{Answer, Seen};

/// Something that an operator sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// The program does not answer.
    NoAnswer,
    /// `/readyz` says so.
    Unready(&'static str),
    /// A counter grows.
    Rises(&'static str),
}

/// Who shows it: all of them need not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    One(Pod),
    AnyWorker,
    Any,
}

/// What a fault is known by, if it lasts long enough and nothing else hides it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Symptom {
    who: Who,
    signs: &'static [Sign],
    after: Duration,
}

const QUEUE: Sign = Sign::Unready("bind queue");
const ON_SIGNALS: Sign = Sign::Unready("on signals");
const SINK: Sign = Sign::Unready("sink timescale");
const RECONNECTS: Sign = Sign::Rises("fleet_source_reconnects_total");
const REFUSED: Sign = Sign::Rises("fleet_refused_total");

/// A counter may grow this long after the fault has ended.
const LATER: Duration = Duration::from_secs(20);

/// What hides another fault does so for this long after it is mended.
const RECOVERY: Duration = Duration::from_secs(12);

/// `None` where a fault is to change nothing (a slow link, a clock, an `off` too many) or where nobody of ours
/// can know of it (the vehicles' own link).
fn symptom(fault: Fault, scene: &Scene) -> Option<Symptom> {
    let seconds = Duration::from_secs;
    let (who, signs, after): (Who, &[Sign], u64) = match fault {
        Fault::Program(pod, Blow::Kill) => (Who::One(pod), &[Sign::NoAnswer], 3),
        Fault::Program(pod, Blow::Stop) => (Who::One(pod), &[Sign::NoAnswer], 4),
        // It may need all of `shutdown_deadline` for its last rows.
        Fault::Program(pod, Blow::Terminate) => (Who::One(pod), &[Sign::NoAnswer], 15),
        // The others go on; who is connected elsewhere sees nothing.
        Fault::Nats(..) if scene.servers > 1 => return None,
        Fault::Nats(_, Blow::Stop) => (Who::Any, &[QUEUE, ON_SIGNALS, RECONNECTS], 12),
        Fault::Nats(_, Blow::Kill | Blow::Terminate) => (Who::Any, &[QUEUE, ON_SIGNALS, RECONNECTS], 3),
        // A write may take 30 s.
        Fault::Postgres(Blow::Stop) => (Who::AnyWorker, &[SINK], 38),
        Fault::Postgres(Blow::Kill | Blow::Terminate) => (Who::AnyWorker, &[SINK], 10),
        Fault::Link(Link::Postgres(n), Harm::Cut) => (Who::One(Pod::Worker(n)), &[SINK], 14),
        Fault::Link(Link::Postgres(n), Harm::Silent | Harm::Stalled) => {
            (Who::One(Pod::Worker(n)), &[SINK], 36)
        }
        Fault::Link(Link::Nats(pod @ Pod::Worker(_)), Harm::Cut) => (Who::One(pod), &[QUEUE, RECONNECTS], 4),
        Fault::Link(Link::Nats(pod @ Pod::Worker(_)), Harm::Silent | Harm::Stalled) => {
            (Who::One(pod), &[QUEUE, RECONNECTS], 20)
        }
        Fault::Link(Link::Nats(Pod::Discovery), Harm::Cut) => (Who::One(Pod::Discovery), &[ON_SIGNALS], 4),
        Fault::Link(Link::Nats(Pod::Discovery), Harm::Silent | Harm::Stalled) => {
            (Who::One(Pod::Discovery), &[ON_SIGNALS], 20)
        }
        Fault::Link(_, Harm::Slow(_)) | Fault::Link(Link::Vehicles, _) | Fault::Clock(..) => return None,
        Fault::Attack(Attack::Garbage | Attack::Malformed | Attack::UnsetClock | Attack::OldDays) => {
            (Who::AnyWorker, &[REFUSED], 8)
        }
        Fault::Attack(Attack::Nobody) => (Who::Any, &[Sign::Rises("fleet_discovery_enqueued_total")], 8),
        Fault::Attack(Attack::Since) => (Who::Any, &[Sign::Rises("fleet_discovery_since_refused_total")], 8),
        Fault::Attack(Attack::OffFlood | Attack::Poison) => return None,
    };
    Some(Symptom { who, signs, after: seconds(after) })
}

/// Whether `other` may keep `fault` from being seen.
fn hides(other: Fault, fault: Fault) -> bool {
    let of_nats = matches!(other, Fault::Nats(..) | Fault::Link(Link::Nats(_), _));
    match fault {
        Fault::Program(..) | Fault::Nats(..) => false,
        Fault::Postgres(_) => matches!(other, Fault::Program(..)) || of_nats,
        Fault::Link(Link::Postgres(n), _) => {
            matches!(other, Fault::Program(pod, _) if pod == Pod::Worker(n)) || of_nats
        }
        Fault::Link(Link::Nats(pod), _) => matches!(other, Fault::Program(stopped, _) if stopped == pod),
        // Hostile messages must reach a worker that has room for them.
        Fault::Attack(_) => !matches!(other, Fault::Attack(_) | Fault::Clock(..)),
        Fault::Link(Link::Vehicles, _) | Fault::Clock(..) => true,
    }
}

/// The longest time for which nothing hides it.
fn clear(fault: &Happened, all: &[Happened]) -> Duration {
    let mut hidden: Vec<(Duration, Duration)> = all
        .iter()
        .filter(|other| hides(other.fault, fault.fault))
        .map(|other| (other.begun, other.over + RECOVERY))
        .collect();
    hidden.push((fault.ended, Duration::MAX));
    hidden.sort();
    let (mut from, mut longest) = (fault.begun, Duration::ZERO);
    for (begin, end) in hidden {
        longest = longest.max(begin.min(fault.ended).saturating_sub(from));
        from = from.max(end);
    }
    longest
}

fn is_seen(fault: &Happened, symptom: &Symptom, seen: &[Seen]) -> bool {
    let mine = |pod: Pod| match symptom.who {
        Who::One(one) => pod == one,
        Who::AnyWorker => pod != Pod::Discovery,
        Who::Any => true,
    };
    let before: BTreeMap<Pod, &Answer> = seen
        .iter()
        .filter(|one| one.at < fault.begun)
        .filter_map(|one| Some((one.pod, one.answer.as_ref()?)))
        .collect();
    // What could not be reached all the time, as while it waits for a server to start with, was visibly down.
    let lasting = |one: &&Seen| mine(one.pod) && one.at >= fault.begun && one.at <= fault.ended;
    let down =
        matches!(symptom.who, Who::One(_)) && seen.iter().filter(lasting).all(|one| one.answer.is_none());
    if down && seen.iter().any(|one| lasting(&one)) {
        return true;
    }
    let during = |one: &&Seen| mine(one.pod) && one.at >= fault.begun && one.at <= fault.ended + LATER;
    seen.iter().filter(during).any(|one| {
        let while_it_lasted = one.at <= fault.ended;
        symptom.signs.iter().any(|sign| match (sign, &one.answer) {
            (Sign::NoAnswer, None) => while_it_lasted,
            (Sign::Unready(what), Some(answer)) => while_it_lasted && answer.unready.contains(what),
            (Sign::Rises(counter), Some(answer)) => {
                let was = before.get(&one.pod).map_or(0, |before| before.of(counter));
                let is = answer.of(counter);
                // A smaller one is that of a new process.
                is > was || is < was && is > 0
            }
            _ => false,
        })
    })
}

/// The faults that nobody could have noticed, and how many were asked for.
pub(crate) fn unnoticed(all: &[Happened], seen: &[Seen], scene: &Scene) -> (Vec<String>, usize) {
    let mut asked = 0;
    let mut missed = Vec::new();
    for fault in all {
        let Some(symptom) = symptom(fault.fault, scene) else { continue };
        let clear = clear(fault, all);
        if clear < symptom.after {
            continue;
        }
        asked += 1;
        if !is_seen(fault, &symptom, seen) {
            missed.push(format!(
                "{} from {:.1} s to {:.1} s ({:.1} s of it with nothing to hide it) was not visible: \
                 {:?} of {:?} never was",
                fault.fault,
                fault.begun.as_secs_f64(),
                fault.ended.as_secs_f64(),
                clear.as_secs_f64(),
                symptom.signs,
                symptom.who
            ));
        }
    }
    (missed, asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::TRACKS;
    use crate::watch::COUNTERS;

    fn scene() -> Scene {
        Scene { servers: 1, workers: 2, tracks: TRACKS.to_vec() }
    }

    fn happened(fault: Fault, begun: u64, ended: u64) -> Happened {
        let seconds = Duration::from_secs;
        Happened { fault, begun: seconds(begun), ended: seconds(ended), over: seconds(ended) }
    }

    fn seen(at: u64, pod: Pod, unready: &str, reconnects: u64) -> Seen {
        let counters = COUNTERS
            .iter()
            .map(|c| if *c == "fleet_source_reconnects_total" { reconnects } else { 0 })
            .collect();
        let answer = Some(Answer { unready: unready.to_owned(), counters });
        Seen { at: Duration::from_secs(at), pod, answer }
    }

    const WORKER: Pod = Pod::Worker(1);
    const AWAY: Fault = Fault::Postgres(Blow::Kill);

    #[test]
    fn a_fault_that_nobody_shows_is_named_with_its_time() {
        let fault = [happened(AWAY, 10, 30)];
        let shown = [seen(20, WORKER, "not ready: sink timescale", 0)];
        assert_eq!(unnoticed(&fault, &shown, &scene()), (Vec::new(), 1));
        for hidden in [
            vec![],
            vec![seen(20, WORKER, "", 0)],
            vec![seen(20, WORKER, "not ready: bind queue", 0)],
            vec![seen(9, WORKER, "not ready: sink timescale", 0)],
            vec![seen(31, WORKER, "not ready: sink timescale", 0)],
            vec![seen(20, Pod::Discovery, "not ready: sink timescale", 0)],
        ] {
            let (missed, asked) = unnoticed(&fault, &hidden, &scene());
            assert_eq!((missed.len(), asked), (1, 1), "{hidden:?}");
            assert!(missed[0].starts_with("PostgreSQL Kill from 10.0 s to 30.0 s"), "{missed:?}");
        }
    }

    #[test]
    fn a_counter_counts_from_what_it_was_before() {
        let cut = [happened(Fault::Link(Link::Nats(WORKER), Harm::Cut), 10, 30)];
        let asked = |looks: &[Seen]| unnoticed(&cut, looks, &scene()).0.is_empty();
        assert!(!asked(&[seen(5, WORKER, "", 3), seen(40, WORKER, "", 3)]));
        assert!(asked(&[seen(5, WORKER, "", 3), seen(40, WORKER, "", 4)]));
        assert!(asked(&[seen(5, WORKER, "", 3), seen(40, WORKER, "", 1)]), "a new process");
        assert!(!asked(&[seen(5, WORKER, "", 3), seen(60, WORKER, "", 4)]), "too late");
    }

    #[test]
    fn what_never_answers_is_visibly_down_and_what_nobody_asks_is_not() {
        let cut = [happened(Fault::Link(Link::Nats(WORKER), Harm::Cut), 10, 30)];
        let silent = |at| Seen { at: Duration::from_secs(at), pod: WORKER, answer: None };
        let missed = |looks: &[Seen]| unnoticed(&cut, looks, &scene()).0.len();
        assert_eq!(missed(&[silent(12), silent(28)]), 0);
        assert_eq!(missed(&[silent(12), seen(28, WORKER, "", 0)]), 1);
        assert_eq!(missed(&[silent(5), silent(31)]), 1);
    }

    #[test]
    fn what_is_hidden_or_short_is_not_asked_for() {
        let silent = happened(Fault::Link(Link::Postgres(1), Harm::Silent), 100, 140);
        let asked = |others: &[Happened]| unnoticed(&[&[silent], others].concat(), &[], &scene()).1;
        assert_eq!(asked(&[]), 1);
        let stopped = |pod, begun, ended| happened(Fault::Program(pod, Blow::Stop), begun, ended);
        // The other fault is asked for itself.
        assert_eq!(asked(&[stopped(Pod::Worker(0), 110, 120)]), 2);
        assert_eq!(asked(&[stopped(WORKER, 110, 120)]), 1);
        assert_eq!(asked(&[stopped(WORKER, 80, 90)]), 1 + 1);
        assert_eq!(asked(&[stopped(WORKER, 80, 95)]), 1);
    }
}
