//! What fails, when and for how long: a pure function of the seed.
//!
//! Each [`Track`] is one thing after another on targets of its own; the tracks run beside each other, so that
//! faults overlap. What would void the promise is left out by construction: one NATS server at a time, no lost
//! disk, and never so long without a stored message that a sample falls behind the allowed lateness.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use crate::dice::Dice;
use crate::hostile::Attack;

/// One of our programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Pod {
    Worker(usize),
    Discovery,
}

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Blow {
    /// SIGSTOP, later SIGCONT.
    Stop,
    /// SIGKILL, later started again; PostgreSQL's immediate shutdown, which ends its children too.
    Kill,
    /// SIGTERM, later started again; PostgreSQL's fast shutdown.
    Terminate,
}

/// Whose way to which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    Nats(Pod),
    Postgres(usize),
    /// The good vehicles' to NATS.
    Vehicles,
}

/// What a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Harm {
    /// Connections are closed, new ones too.
    Cut,
    /// Bytes vanish and nobody is told; a connection of that time stays dead.
    Silent,
    /// Bytes stand still and arrive afterwards, as TCP does it when packets are lost.
    Stalled,
    /// Bytes take so many milliseconds more.
    Slow(u64),
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    Program(Pod, Blow),
    Nats(usize, Blow),
    Postgres(Blow),
    Link(Link, Harm),
    /// The wall clock is off by so many seconds.
    Clock(Pod, i64),
    Attack(Attack),
}

/// Faults of which there is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Track {
    Programs,
    Nats,
    Postgres,
    NatsLinks,
    PostgresLinks,
    Clocks,
    Attacks,
}

pub(crate) const TRACKS: [Track; 7] = [
    Track::Programs,
    Track::Nats,
    Track::Postgres,
    Track::NatsLinks,
    Track::PostgresLinks,
    Track::Clocks,
    Track::Attacks,
];

/// A fault at its time, counted from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

/// What there is to break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scene {
    /// NATS servers: 1 or 3.
    pub(crate) servers: usize,
    pub(crate) workers: usize,
    /// Which tracks run.
    pub(crate) tracks: Vec<Track>,
}

/// The faults of so many seconds, by time.
pub(crate) fn plan(seed: u64, length: Duration, scene: &Scene) -> Vec<Planned> {
    let mut all: Vec<Planned> =
        scene.tracks.iter().flat_map(|track| along(*track, seed, length, scene)).collect();
    all.sort_by_key(|planned| planned.at);
    all
}

/// The faults of one track: each card of the deck once, in another order each time through.
fn along(track: Track, seed: u64, length: Duration, scene: &Scene) -> Vec<Planned> {
    // A track's faults don't depend on which others there are.
    let mut dice = Dice::new(seed ^ Dice::new(track as u64 + 1).roll());
    let (cards, pause) = (track.cards(scene), track.pause(scene));
    let mut deck: Vec<Card> = Vec::new();
    let mut planned = Vec::new();
    let millis = Duration::from_millis;
    let mut at = millis(dice.within(&(1_000..8_000)));
    loop {
        if deck.is_empty() {
            deck.clone_from(&cards);
            dice.shuffle(&mut deck);
        }
        let Some((fault, range)) = deck.pop() else { return planned };
        let lasts = millis(dice.within(&range));
        if at + millis(range.start) > length {
            return planned;
        }
        let lasts = lasts.min(length - at);
        planned.push(Planned { at, lasts, fault });
        at += lasts + millis(dice.within(&pause));
    }
}

/// A fault with its length, milliseconds.
type Card = (Fault, Range<u64>);

/// Nothing is stored meanwhile: together with what a client takes to notice a dead connection (30 s), and the
/// outage of the other track beside it, less than the allowed lateness.
const OUTAGE: Range<u64> = 3_000..14_000;

impl Track {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Programs => "programs",
            Self::Nats => "nats",
            Self::Postgres => "postgres",
            Self::NatsLinks => "nats-links",
            Self::PostgresLinks => "postgres-links",
            Self::Clocks => "clocks",
            Self::Attacks => "attacks",
        }
    }

    /// Milliseconds between its faults.
    fn pause(self, scene: &Scene) -> Range<u64> {
        match self {
            // What a server of three missed is to be there again before the next one goes.
            Self::Nats if scene.servers > 1 => 15_000..25_000,
            Self::Nats => 12_000..35_000,
            Self::Postgres => 12_000..40_000,
            Self::Programs | Self::NatsLinks | Self::PostgresLinks => 5_000..20_000,
            Self::Clocks | Self::Attacks => 4_000..12_000,
        }
    }

    fn cards(self, scene: &Scene) -> Vec<Card> {
        let pods: Vec<Pod> = (0..scene.workers).map(Pod::Worker).chain([Pod::Discovery]).collect();
        let blows = |stopped: Range<u64>, down: Range<u64>| {
            [(Blow::Stop, stopped.clone()), (Blow::Kill, down), (Blow::Terminate, stopped)]
        };
        let harms = [
            (Harm::Cut, 3_000..20_000),
            (Harm::Silent, 10_000..45_000),
            (Harm::Stalled, 5_000..45_000),
            (Harm::Slow(50), 5_000..20_000),
            (Harm::Slow(800), 5_000..20_000),
        ];
        match self {
            Self::Programs => pods
                .into_iter()
                .flat_map(|pod| {
                    blows(5_000..20_000, 3_000..8_000).map(|(blow, range)| (Fault::Program(pod, blow), range))
                })
                .collect(),
            Self::Nats => (0..scene.servers)
                .flat_map(|n| blows(OUTAGE, OUTAGE).map(|(blow, range)| (Fault::Nats(n, blow), range)))
                .collect(),
            Self::Postgres => blows(5_000..45_000, 4_000..25_000)
                .map(|(blow, range)| (Fault::Postgres(blow), range))
                .to_vec(),
            Self::NatsLinks => pods
                .into_iter()
                .flat_map(|pod| {
                    harms.clone().map(|(harm, range)| (Fault::Link(Link::Nats(pod), harm), range))
                })
                .chain(harms.clone().map(|(harm, _)| (Fault::Link(Link::Vehicles, harm), OUTAGE)))
                .collect(),
            Self::PostgresLinks => (0..scene.workers)
                .flat_map(|n| {
                    harms.clone().map(|(harm, range)| (Fault::Link(Link::Postgres(n), harm), range))
                })
                .collect(),
            Self::Clocks => pods
                .into_iter()
                .flat_map(|pod| {
                    [-3_600, -90, 90, 3_600, 31_536_000].map(|by| (Fault::Clock(pod, by), 8_000..30_000))
                })
                .collect(),
            Self::Attacks => Attack::ALL.map(|attack| (Fault::Attack(attack), 5_000..20_000)).to_vec(),
        }
    }
}

impl Fault {
    pub(crate) fn track(self) -> Track {
        match self {
            Self::Program(..) => Track::Programs,
            Self::Nats(..) => Track::Nats,
            Self::Postgres(_) => Track::Postgres,
            Self::Link(Link::Postgres(_), _) => Track::PostgresLinks,
            Self::Link(..) => Track::NatsLinks,
            Self::Clock(..) => Track::Clocks,
            Self::Attack(_) => Track::Attacks,
        }
    }

    /// Its kind, whatever the target, for the report.
    pub(crate) fn kind(self) -> String {
        match self {
            Self::Program(Pod::Worker(_), blow) => format!("worker {blow:?}"),
            Self::Program(Pod::Discovery, blow) => format!("discovery {blow:?}"),
            Self::Nats(_, blow) => format!("nats-server {blow:?}"),
            Self::Postgres(blow) => format!("PostgreSQL {blow:?}"),
            Self::Link(Link::Nats(Pod::Worker(_)), harm) => format!("worker-NATS {harm:?}"),
            Self::Link(Link::Nats(Pod::Discovery), harm) => format!("discovery-NATS {harm:?}"),
            Self::Link(Link::Postgres(_), harm) => format!("worker-PostgreSQL {harm:?}"),
            Self::Link(Link::Vehicles, harm) => format!("vehicles-NATS {harm:?}"),
            Self::Clock(_, by) => format!("clock {by:+} s"),
            Self::Attack(attack) => format!("hostile {attack:?}"),
        }
    }
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(n) => write!(f, "worker-{n}"),
            Self::Discovery => f.write_str("discovery"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(pod, _) | Self::Link(Link::Nats(pod), _) | Self::Clock(pod, _) => {
                write!(f, "{} ({pod})", self.kind())
            }
            Self::Link(Link::Postgres(n), _) => write!(f, "{} ({})", self.kind(), Pod::Worker(*n)),
            Self::Nats(n, _) => write!(f, "{} ({n})", self.kind()),
            Self::Postgres(_) | Self::Link(Link::Vehicles, _) | Self::Attack(_) => f.write_str(&self.kind()),
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7.1} s for {:4.1} s: {}", self.at.as_secs_f64(), self.lasts.as_secs_f64(), self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(servers: usize) -> Scene {
        Scene { servers, workers: 3, tracks: TRACKS.to_vec() }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_another() {
        let of = |seed| plan(seed, HOUR, &scene(1));
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn a_track_is_the_same_whatever_runs_beside_it() {
        let alone = plan(7, HOUR, &Scene { tracks: vec![Track::Postgres], ..scene(1) });
        let beside: Vec<_> = plan(7, HOUR, &scene(1));
        let beside: Vec<_> = beside.into_iter().filter(|p| p.fault.track() == Track::Postgres).collect();
        assert_eq!(alone, beside);
    }

    #[test]
    fn an_hour_holds_every_fault_and_ends_in_time() {
        for (seed, servers) in [(1, 1), (2, 3), (3, 1)] {
            let plan = plan(seed, HOUR, &scene(servers));
            for track in TRACKS {
                for (fault, range) in track.cards(&scene(servers)) {
                    let found = plan.iter().find(|planned| planned.fault == fault);
                    let lasts = found.map(|planned| planned.lasts.as_millis());
                    assert!(
                        lasts.is_some_and(
                            |lasts| u128::from(range.start) <= lasts && lasts < u128::from(range.end)
                        ),
                        "seed {seed}: {fault} for {lasts:?} ms"
                    );
                }
            }
            assert!(plan.iter().all(|planned| planned.at + planned.lasts <= HOUR));
        }
    }

    #[test]
    fn faults_of_one_track_never_overlap_and_those_of_several_do() {
        let plan = plan(9, HOUR, &scene(3));
        let together = |a: &Planned, b: &Planned| a.at < b.at + b.lasts && b.at < a.at + a.lasts;
        let pairs = || plan.iter().enumerate().flat_map(|(n, a)| plan[n + 1..].iter().map(move |b| (a, b)));
        assert!(pairs().filter(|(a, b)| together(a, b)).all(|(a, b)| a.fault.track() != b.fault.track()));
        assert!(pairs().filter(|(a, b)| together(a, b)).count() > 100);
    }
}
