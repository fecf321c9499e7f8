//! The command line.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use fleet_core::{Micros, VehicleId};

use crate::config::{Needs, without_passwords};
use crate::exit;
use crate::terminal::complain;

/// The release and the commit that it was built from; a `+` says that something was changed since.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("FLEET_COMMIT"), ")");

/// Turns the uneven sensor messages of a vehicle fleet into evenly spaced records.
#[derive(Debug, Parser)]
#[command(name = "fleet-worker", version = VERSION, arg_required_else_help = true)]
pub struct Cli {
    /// Flags of every subcommand.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every subcommand; they win over the environment and the file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct GlobalArgs {
    /// The configuration, a TOML file; without it the defaults hold
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// NATS, as nats://host:4222 (`nats.url`)
    #[arg(long, global = true, value_name = "URL")]
    pub nats_url: Option<String>,
    /// The database, as postgres://user@host/database (`sink.timescale.url`)
    #[arg(long, global = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// The group of vehicles to serve (`cell`); may be repeated (`cells`)
    #[arg(long, global = true)]
    pub cell: Vec<String>,
    /// error, warn, info, debug or trace (`log.level`)
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl GlobalArgs {
    /// The flags as paths and values of the configuration.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let cell = (!self.cell.is_empty()).then(|| self.cell.join(","));
        let flags = [
            ("nats.url", &self.nats_url),
            ("sink.timescale.url", &self.database_url),
            (if self.cell.len() > 1 { "cells" } else { "cell" }, &cell),
            ("log.level", &self.log_level),
        ];
        let set = flags.into_iter().filter_map(|(path, value)| Some((path.to_owned(), value.clone()?)));
        set.collect()
    }
}

/// The subcommands.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Bind vehicles, align their samples, store the records
    Run,
    /// Turn `on` signals into bind requests
    Discover,
    /// Create streams, consumers and tables; may be repeated
    Setup(SetupArgs),
    /// Say what is wrong with the configuration, all of it at once
    Check(CheckArgs),
    /// Drive a fleet of simulated vehicles, or play a recording back
    Simulate(SimulateArgs),
    /// Remove one vehicle from database, streams and archive, and say what was removed
    Erase(EraseArgs),
    /// Derive records once more from the stream, from dead letters, or from an archive
    Replay(ReplayArgs),
    /// All of it on this machine, with local servers; a --config of it has neither [nats] nor [sink]
    Demo(DemoArgs),
    /// Print a shell's completions, to be put where it looks for them
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual's pages, one for each command, to a folder
    Man {
        /// The folder, such as ~/.local/share/man/man1
        folder: PathBuf,
    },
}

impl Command {
    /// Whether it runs until it is stopped and all that it says goes to its log.
    pub fn is_service(&self) -> bool {
        matches!(self, Self::Run | Self::Discover)
    }

    /// What it can't do without.
    pub fn needs(&self) -> Needs {
        match self {
            Self::Run | Self::Setup(_) | Self::Erase(_) => Needs::Database,
            Self::Replay(args) if args.from.is_some() => Needs::Database,
            _ => Needs::Nothing,
        }
    }
}

/// Flags of `setup`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct SetupArgs {
    /// Say what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Let the telemetry stream keep no more of signals that the configuration does not have
    #[arg(long)]
    pub remove_signals: bool,
    /// Make a cell this database's that belongs to another deployment, as after a new start with an empty one
    #[arg(long)]
    pub take_over: bool,
}

/// Flags of `check`.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckArgs {
    /// Log in to NATS as `setup` and as this vehicle too, and try what it must not be able to do
    #[arg(long, value_name = "ID", requires = "login")]
    pub vehicle: Option<fleet_core::VehicleId>,
    /// The file with the vehicle's nkey seed or credentials
    #[arg(long, value_name = "FILE", requires = "vehicle")]
    pub login: Option<PathBuf>,
}

/// Flags of `simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// How many vehicles
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub vehicles: u32,
    /// Spread them evenly over the cells 0, 1 and so on, so many, instead of the configured ones
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub cells: Option<u32>,
    /// Over how many connections they publish; as many as vehicles is how it is on the road
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// Play this recording back instead of simulating
    #[arg(long, value_name = "FILE")]
    pub recording: Option<PathBuf>,
    /// How many times faster than real time
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,
    /// Stop after this many seconds; without it, at the recording's end or when interrupted
    #[arg(long)]
    pub seconds: Option<u64>,
    /// The same seed drives the same way
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What the vehicles' ids begin with
    #[arg(long, default_value = "sim-", value_parser = prefix)]
    pub prefix: String,
}

/// Flags of `erase`.
#[derive(Debug, Clone, Args)]
pub struct EraseArgs {
    /// The vehicle's id; nothing of it can be brought back
    #[arg(long, value_name = "VEHICLE")]
    pub vehicle: VehicleId,
}

/// Flags of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How long to run
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// How many vehicles
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub vehicles: u32,
    /// Spread them evenly over the cells 0, 1 and so on, so many, which all programs serve
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cells: Option<u32>,
    /// Over how many connections they publish; as many as vehicles is how it is on the road
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// Play this recording back instead of simulating
    #[arg(long, value_name = "FILE")]
    pub recording: Option<PathBuf>,
    /// Leave servers and data in place at the end
    #[arg(long)]
    pub keep: bool,
    /// Write what it comes to into this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Look at 50 vehicles four times a second, and tell how soon what they publish can be seen
    #[arg(long)]
    pub watch: bool,
    /// How many workers; with two or more, one is stopped on the way
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub workers: u32,
}

/// Flags of `replay`.
// clap drops a `requires` where what is required conflicts with what is there: so those of dead letters
// name both.
#[derive(Debug, Clone, Default, Args)]
pub struct ReplayArgs {
    /// The first record's time: RFC 3339, or how long ago, such as 90m
    #[arg(long, value_name = "TIME", value_parser = moment)]
    #[arg(required_unless_present_any = ["dead_letters", "from_archive"])]
    pub from: Option<Moment>,
    /// Up to this time, not including it; without it, as late as records are final
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<Moment>,
    /// Only of this vehicle; may be repeated
    #[arg(long, value_name = "VEHICLE")]
    pub vehicle: Vec<VehicleId>,
    /// Put the records in place of those that are stored, as after a change of the configuration
    #[arg(long, conflicts_with_all = ["dead_letters", "from_archive"])]
    pub replace: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Use what could not be used or stored before
    #[arg(long, conflicts_with_all = ["from", "to", "from_archive"])]
    pub dead_letters: bool,
    /// Only letters with this reason, such as late or row; may be repeated
    #[arg(long, value_name = "REASON", requires = "dead_letters", conflicts_with_all = ["input", "from", "from_archive"])]
    pub reason: Vec<String>,
    /// List the letters for people
    #[arg(long, requires = "dead_letters", conflicts_with_all = ["json", "input", "discard", "from", "from_archive"])]
    pub list: bool,
    /// List the letters as lines of JSON, which may be mended and given to --input
    #[arg(long, requires = "dead_letters", conflicts_with_all = ["input", "discard", "from", "from_archive"])]
    pub json: bool,
    /// Use the letters of this file, and remove them from the stream
    #[arg(long, value_name = "FILE", requires = "dead_letters", conflicts_with_all = ["from", "from_archive"])]
    pub input: Option<PathBuf>,
    /// Remove the letters without using them
    #[arg(long, requires = "dead_letters", conflicts_with_all = ["from", "from_archive"])]
    pub discard: bool,
    /// Load an archive into the database: a folder or a bucket's URL, or else the configured one
    #[arg(long, value_name = "PLACE", num_args = 0..=1, default_missing_value = "")]
    pub from_archive: Option<String>,
}

/// A time on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// This one.
    At(Micros),
    /// So long ago.
    Ago(Micros),
}

impl Moment {
    /// The time that it is, seen from `now`.
    pub fn before(self, now: Micros) -> Micros {
        match self {
            Self::At(time) => time,
            Self::Ago(long) => now.saturating_sub(long),
        }
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    let at = fleet_core::time::parse(text).map(Moment::At);
    let ago = || fleet_core::time::parse_duration(text).map(Moment::Ago);
    at.or_else(|_| ago())
        .map_err(|_| "must be a time such as 2026-11-25T08:00:00Z, or how long ago, such as 90m".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(speed),
        _ => Err("must be a number above 0".to_owned()),
    }
}

fn prefix(text: &str) -> Result<String, String> {
    // A number of up to seven digits follows.
    VehicleId::new(text).map_err(|e| e.to_string())?;
    if text.len() > 57 { Err("must have at most 57 characters".to_owned()) } else { Ok(text.to_owned()) }
}

/// Says what clap has to say and gives the exit code: help is no error, anything else is usage.
pub fn refuse(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        // Nobody reads it when the pipe is closed.
        let _ = error.print();
        return exit::OK;
    }
    let said = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        complain(said.trim_end());
    } else {
        // clap quotes what it does not understand, which may be a URL.
        complain(without_passwords(said.trim_end()));
    }
    exit::USAGE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_become_overrides() {
        let cli = Cli::try_parse_from(["fleet-worker", "check", "--cell", "7", "--nats-url", "nats://h"]);
        let overrides = cli.unwrap().global.overrides();
        let pairs: Vec<_> = overrides.iter().map(|(p, v)| (p.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("nats.url", "nats://h"), ("cell", "7")]);
        let cli = Cli::try_parse_from(["fleet-worker", "--cell", "7", "check", "--cell", "8"]);
        assert_eq!(cli.unwrap().global.overrides(), [("cell".to_owned(), "8".to_owned())]);
        let cli = Cli::try_parse_from(["fleet-worker", "check", "--cell", "7", "--cell", "8"]);
        assert_eq!(cli.unwrap().global.overrides(), [("cells".to_owned(), "7,8".to_owned())]);
    }

    #[test]
    fn replay_knows_which_flags_go_together() {
        let parse = |line: &str| {
            Cli::try_parse_from(["fleet-worker", "replay"].into_iter().chain(line.split_whitespace()))
        };
        for good in [
            "--from 2026-11-25T08:00:00Z --to 10m --vehicle A --vehicle B --replace --dry-run",
            "--from 90m",
            "--dead-letters --reason late --reason row --vehicle A",
            "--dead-letters --input letters.jsonl --discard",
            "--from-archive",
            "--from-archive s3://archive --from 48h",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "--to 10m",
            "--from yesterday",
            "--from 90m --vehicle a.b",
            "--from 90m --reason late",
            "--from 90m --list",
            "--from 90m --json",
            "--from 90m --input letters.jsonl",
            "--from-archive --discard",
            "--dead-letters --replace",
            "--dead-letters --from 90m",
            "--dead-letters --list --json",
            "--dead-letters --from-archive",
            "--from-archive --replace",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn senseless_numbers_are_refused() {
        for bad in [["--speed", "0"], ["--vehicles", "0"], ["--prefix", "a.b"]] {
            let line = ["fleet-worker", "simulate"].into_iter().chain(bad);
            assert!(Cli::try_parse_from(line).is_err(), "{bad:?}");
        }
    }
}
