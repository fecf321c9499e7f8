//! The binary: parses the command line, loads the configuration, runs the subcommand.

use std::process::ExitCode;

use clap::Parser;
use fleet_core::Error;
use fleet_core::error::Result;
use fleet_worker::cli::{Cli, Command};
use fleet_worker::commands::{Stop, unless_stopped};
use fleet_worker::config::{Config, LogConfig};
use fleet_worker::terminal::complain;
use fleet_worker::{cli, commands, exit, logging};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let code = main_code().unwrap_or_else(|error| {
        complain(format_args!("fleet-worker: {}", error.to_string().replace('\n', " ")));
        exit::code(error.kind())
    });
    ExitCode::from(code)
}

fn main_code() -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal("could not start the runtime").caused_by(e))?;
    // Before anything else: a signal that comes while we start must end us as one that comes later does, and as
    // a container's first process we would not even notice it.
    let stop = runtime.block_on(async { commands::stop_signal() })?;
    let ended = match Cli::try_parse() {
        Ok(cli) => start(cli, &runtime, stop),
        Err(error) => Ok(cli::refuse(&error)),
    };
    // A name that is still being looked up holds nobody.
    runtime.shutdown_background();
    ended
}

fn start(cli: Cli, runtime: &Runtime, stop: Stop) -> Result<u8> {
    match &cli.command {
        Command::Completions { shell } => return commands::manual::completions(*shell).map(|()| exit::OK),
        Command::Man { folder } => return commands::manual::pages(folder).map(|()| exit::OK),
        _ => {}
    }
    // A variable that is no UTF-8 can't be one of ours; `vars` would panic on it.
    let env = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let needs = cli.command.needs();
    let config = match Config::load_for(needs, cli.global.config.as_deref(), env, &cli.global.overrides()) {
        Ok(config) => config,
        Err(problems) if cli.command.is_service() => {
            // The file can't say how it wants its logs.
            logging::init(LogConfig::default());
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            return Ok(last_words(&Error::configuration(problems.join("; "))));
        }
        Err(problems) => {
            for problem in problems {
                complain(format_args!("fleet-worker: {problem}"));
            }
            return Ok(exit::USAGE);
        }
    };
    let mut log = config.log;
    if matches!(cli.command, Command::Demo(_)) {
        // What its programs say is in their own logs; the demo itself speaks in plain words.
        log.level = log.level.min(tracing::Level::WARN);
    }
    logging::init(log);
    let is_service = cli.command.is_service();
    match runtime.block_on(Box::pin(run(cli, config, stop))) {
        Err(error) if is_service => Ok(last_words(&error)),
        ended => ended.map(|()| exit::OK),
    }
}

/// Why a service ends, as its log has it; the exit code.
fn last_words(error: &Error) -> u8 {
    let (code, error) = (exit::code(error.kind()), error.to_string().replace('\n', " "));
    tracing::error!(error, code, "fleet-worker ends");
    code
}

async fn run(cli: Cli, config: Config, stop: Stop) -> Result<()> {
    match cli.command {
        Command::Run => Box::pin(commands::run::run(&config, stop)).await,
        Command::Discover => commands::discover::discover(&config, stop).await,
        Command::Simulate(args) => commands::simulate::simulate(&config, &args, stop).await,
        Command::Demo(args) => commands::demo::demo(&args, cli.global.config.as_deref(), stop).await,
        Command::Setup(args) => unless_stopped(stop, Box::pin(commands::setup::run(&config, &args))).await,
        Command::Check(args) => unless_stopped(stop, Box::pin(commands::check::check(&config, &args))).await,
        Command::Erase(args) => unless_stopped(stop, Box::pin(commands::erase::run(&config, &args))).await,
        Command::Completions { .. } | Command::Man { .. } => Ok(()),
        Command::Replay(args) => {
            unless_stopped(stop, Box::pin(commands::replay::replay(&config, &args))).await
        }
    }
}
