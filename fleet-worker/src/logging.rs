//! Logs: one line each on stderr, text on a terminal and JSON elsewhere, repeats rate-limited.

mod limit;

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Format;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogConfig, LogFormat};
use crate::terminal::has_colors;
use limit::{Limited, Note};

/// Logs from now on; only the first call of a process does anything.
pub fn init(config: LogConfig) {
    let terminal = std::io::stderr().is_terminal();
    // A log that nobody reads any more stops nothing.
    let json = match config.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let layer = if json {
        // A lane's lines are those of its thread.
        let format = Format::default().json().flatten_event(true).with_thread_names(true);
        let format = Limited::new(format, Note::Json);
        layer
            .fmt_fields(tracing_subscriber::fmt::format::JsonFields::new())
            .event_format(format)
            .with_ansi(false)
            .with_filter(targets(config.level))
            .boxed()
    } else {
        let format = Limited::new(Format::default(), Note::Text);
        layer.event_format(format).with_ansi(has_colors()).with_filter(targets(config.level)).boxed()
    };
    // A test or the demo may have set one already.
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

/// Our own crates at the level, others only when they warn.
fn targets(level: Level) -> Targets {
    let ours = ["fleet_core", "fleet_sinks", "fleet_worker"];
    Targets::new()
        .with_default(level.min(Level::WARN))
        .with_targets(ours.into_iter().map(|target| (target, level)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_heard_only_when_they_warn() {
        let filter = targets(Level::DEBUG);
        assert!(filter.would_enable("fleet_core::nats", &Level::DEBUG));
        assert!(!filter.would_enable("fleet_core::nats", &Level::TRACE));
        assert!(filter.would_enable("async_nats", &Level::WARN));
        assert!(!filter.would_enable("async_nats", &Level::INFO));
        assert!(!targets(Level::ERROR).would_enable("async_nats", &Level::WARN));
    }
}
