//! How many instructions the path of a message takes, counted by valgrind: the reader's parser, the lane, and
//! the sink's COPY encoder. The same on every machine, whatever else that does, so that CI can compare it with
//! the figures in `instructions.txt`.
//! `cargo bench -p fleet-core --bench instructions`, with `-- --update` to write new figures.
//!
//! It fails where a figure is above the written one by more than 10 %, which another compiler may cost. What every
//! run does once, such as making the messages, is taken off: each part runs for a while and for twice as long.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};

use bytes::BytesMut;
use fleet_core::nats::reader::{Inbound, Limits, Operation};

/// The encoder is private to its crate, and needs no more of it than this file.
#[path = "../../fleet-sinks/src/timescale/encode.rs"]
#[allow(dead_code, unreachable_pub, reason = "what the sink uses beside it")]
mod encode;
#[path = "shared/fleet.rs"]
mod fleet;

/// What is measured: its name, what it does so many times, and how many messages or rows that is.
type Part = (&'static str, fn(u32) -> u64);

const PARTS: [Part; 3] =
    [("reader, a message", reader), ("lane, a message", lane), ("COPY encoder, a row", encoder)];

/// Of the written figures.
const MARGIN: f64 = 0.10;

const VEHICLES: u32 = 1_000;

/// Of the shorter run.
const ROUNDS: u32 = 5;

/// Messages of 14 bytes to 1,000 subscriptions, read in pieces of 64 KiB.
fn reader(rounds: u32) -> u64 {
    let mut stream = Vec::new();
    for vehicle in 0..VEHICLES {
        let subject = format!("fleet.0.WVWZZZ1KZ8W{vehicle:06}.speed");
        let reply = format!("_INBOX.WVWZZZ1KZ8W{vehicle:06}.{vehicle}");
        stream.extend_from_slice(format!("MSG {subject} {vehicle} {reply} 14\r\n").as_bytes());
        stream.extend_from_slice(b"0123456789abcd\r\n");
    }
    let (mut inbound, mut messages) = (Inbound::new(1 << 20, Limits::default()), 0);
    for _ in 0..10 * rounds {
        for mut piece in stream.chunks(64 << 10) {
            while !piece.is_empty() {
                let room = inbound.room();
                let length = room.len().min(piece.len());
                room[..length].copy_from_slice(&piece[..length]);
                inbound.filled(length);
                piece = &piece[length..];
            }
            for operation in inbound.operations() {
                if let Operation::Message(message) = operation.unwrap() {
                    black_box(message);
                    messages += 1;
                }
            }
        }
    }
    messages
}

/// A minute of 1,000 vehicles at the default pace for each round, two minutes after they began. The messages of all
/// rounds that there may be are made in any case.
fn lane(rounds: u32) -> u64 {
    let schema = fleet::patient("30s");
    let (mut fleet, mut lane) = (fleet::Fleet::new(&schema, VEHICLES), fleet::lane(&schema, VEHICLES));
    let seconds: Vec<_> = (0..120 + 60 * i64::from(2 * ROUNDS)).map(|second| fleet.second(second)).collect();
    let mut messages = 0;
    for of_second in seconds.iter().take(120 + 60 * rounds as usize) {
        fleet::feed(&mut lane, of_second);
        black_box(lane.seal().unwrap());
        messages += of_second.len() as u64;
    }
    messages
}

/// Ten minutes of rows of 1,000 vehicles, encoded once for each round.
fn encoder(rounds: u32) -> u64 {
    let schema = fleet::patient("30s");
    let (mut fleet, mut lane) = (fleet::Fleet::new(&schema, VEHICLES), fleet::lane(&schema, VEHICLES));
    for second in 0..600 {
        fleet::feed(&mut lane, &fleet.second(second));
    }
    let batch = lane.seal().unwrap();
    let rows = encode::Rows::of(&batch).unwrap();
    let (all, ids): (Vec<u32>, Vec<i32>) =
        ((0..).take(rows.len()).collect(), (0..).take(VEHICLES as usize).collect());
    let mut copy = BytesMut::new();
    for _ in 0..rounds {
        copy.clear();
        encode::begin(&mut copy);
        rows.encode(&all, &ids, &mut copy);
        encode::end(&mut copy);
        black_box(&copy);
    }
    u64::from(rounds) * rows.len() as u64
}

/// The instructions of this program with a part and so many rounds, and how many messages or rows those were.
fn counted(part: usize, rounds: u32) -> (f64, f64) {
    let program = std::env::current_exe().unwrap();
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--part", &part.to_string(), &rounds.to_string()])
        .output()
        .expect("valgrind counts the instructions: install it, on Debian the package valgrind");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    let collected =
        said.lines().find_map(|line| line.split_once("Collected : ")).expect("callgrind's total").1;
    let done = String::from_utf8_lossy(&ran.stdout);
    (collected.trim().parse().unwrap(), done.trim().parse().unwrap())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, part, rounds] = &arguments[..]
        && word == "--part"
    {
        let (_, run) = PARTS[part.parse::<usize>().unwrap()];
        println!("{}", run(rounds.parse().unwrap()));
        return ExitCode::SUCCESS;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let (mut figures, mut grown) = (String::new(), false);
    println!("{:24}{:>12}{:>12}{:>9}", "instructions", "written", "now", "ratio");
    for (index, (name, _)) in PARTS.iter().enumerate() {
        let (once, twice) = (counted(index, ROUNDS), counted(index, 2 * ROUNDS));
        let now = (twice.0 - once.0) / (twice.1 - once.1);
        writeln!(figures, "{name}: {now:.1}").unwrap();
        let line = written.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let before: Option<f64> = line.and_then(|figure| figure.parse().ok());
        let ratio = before.map_or(f64::NAN, |before| now / before);
        println!("{name:24}{:>12.1}{now:>12.1}{ratio:>9.3}", before.unwrap_or(f64::NAN));
        grown |= ratio > 1.0 + MARGIN;
    }
    if arguments.iter().any(|argument| argument == "--update") {
        std::fs::write(file, figures).unwrap();
    } else if grown {
        println!(
            "more than {:.0} % above what is written: mend it, or say in the commit why and run with --update",
            MARGIN * 100.0
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
