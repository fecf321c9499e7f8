//! The binary: parses the command line, loads the configuration, runs the subcommand.

use std::process::ExitCode;

use clap::Parser;
use fleet_core::Error;
use fleet_core::error::Result;
use fleet_worker::cli::{Cli, Command};
use fleet_worker::config::Config;
use fleet_worker::{cli, commands, exit, logging};

fn main() -> ExitCode {
    ExitCode::from(match Cli::try_parse() {
        Ok(cli) => start(cli),
        Err(error) => cli::refuse(&error),
    })
}

fn start(cli: Cli) -> u8 {
    // A variable that is no UTF-8 can't be one of ours; `vars` would panic on it.
    let env = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let config = match Config::load(cli.global.config.as_deref(), env, &cli.global.overrides()) {
        Ok(config) => config,
        Err(problems) => {
            for problem in problems {
                eprintln!("fleet-worker: {problem}");
            }
            return exit::USAGE;
        }
    };
    let mut log = config.log;
    if matches!(cli.command, Command::Demo(_)) {
        // What its programs say is in their own logs; the demo itself speaks in plain words.
        log.level = log.level.min(tracing::Level::WARN);
    }
    logging::init(log);
    match run(cli, config) {
        Ok(()) => exit::OK,
        Err(error) => {
            eprintln!("fleet-worker: {}", error.to_string().replace('\n', " "));
            exit::code(error.kind())
        }
    }
}

fn run(cli: Cli, config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal("could not start the runtime").caused_by(e))?;
    runtime.block_on(Box::pin(async {
        match cli.command {
            Command::Run => Box::pin(commands::run::run(&config, commands::stop_signal())).await,
            Command::Discover => commands::discover::discover(&config, commands::stop_signal()).await,
            Command::Setup(args) => Box::pin(commands::setup::run(&config, &args)).await,
            Command::Check(args) => commands::check::check(&config, &args).await,
            Command::Simulate(args) => {
                commands::simulate::simulate(&config, &args, commands::stop_signal()).await
            }
            Command::Erase(args) => commands::erase::run(&config, &args).await,
            Command::Replay(args) => tokio::select! {
                ended = commands::replay::replay(&config, &args) => ended,
                () = commands::stop_signal() => {
                    Err(Error::unavailable("interrupted: what is stored stays, and the rest is as it was"))
                }
            },
            Command::Demo(args) => commands::demo::demo(&args, cli.global.config.as_deref()).await,
        }
    }))
}
