//! The same place in the code may warn 20 times a minute; then it is silent until the minute is over
//! and says how often it was not heard.
//!
//! This wraps the format and is no filter: a filter could not write the note about what was left out
//! without an event inside an event, which a subscriber need not see.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

const MOST: u32 = 20;
const PERIOD: Duration = Duration::from_secs(60);

/// How the note about what was left out is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    Text,
    Json,
}

/// A format whose repeated warnings and errors are rate-limited.
pub(super) struct Limited<F> {
    inner: F,
    note: Note,
    windows: Mutex<HashMap<Identifier, Window>>,
}

impl<F> Limited<F> {
    pub(super) fn new(inner: F, note: Note) -> Self {
        Self { inner, note, windows: Mutex::default() }
    }

    fn decide(&self, callsite: Identifier, now: Instant) -> Decision {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.entry(callsite).or_insert(Window { since: now, passed: 0, left_out: 0 }).decide(now)
    }
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    passed: u32,
    left_out: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Pass,
    /// After so many that were left out.
    PassAfter(u64),
    LeaveOut,
}

impl Window {
    fn decide(&mut self, now: Instant) -> Decision {
        let mut left_out = 0;
        if now.duration_since(self.since) >= PERIOD {
            left_out = self.left_out;
            *self = Self { since: now, passed: 0, left_out: 0 };
        }
        if self.passed >= MOST {
            self.left_out += 1;
            return Decision::LeaveOut;
        }
        self.passed += 1;
        if left_out > 0 { Decision::PassAfter(left_out) } else { Decision::Pass }
    }
}

impl Note {
    fn write(self, writer: &mut Writer<'_>, event: &Event<'_>, count: u64) -> fmt::Result {
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let said = format!("left out {count} repeats of the next message");
        match self {
            Self::Text => writeln!(writer, "{time} {level:>5} {target}: {said}"),
            Self::Json => {
                let line = serde_json::json!({
                    "timestamp": time,
                    "level": level.as_str(),
                    "message": said,
                    "left_out": count,
                    "target": target,
                });
                writeln!(writer, "{line}")
            }
        }
    }
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // `Level` orders by detail: at most WARN is WARN and ERROR.
        if *event.metadata().level() <= Level::WARN {
            match self.decide(event.metadata().callsite(), Instant::now()) {
                Decision::Pass => {}
                Decision::PassAfter(count) => self.note.write(&mut writer, event, count)?,
                Decision::LeaveOut => return Ok(()),
            }
        }
        self.inner.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::Format;

    use super::*;

    #[test]
    fn twenty_a_minute_pass_and_the_rest_is_counted() {
        let start = Instant::now();
        let mut window = Window { since: start, passed: 0, left_out: 0 };
        let decided: Vec<_> = (0..25).map(|_| window.decide(start)).collect();
        assert!(decided[..20].iter().all(|d| *d == Decision::Pass));
        assert!(decided[20..].iter().all(|d| *d == Decision::LeaveOut));
        assert_eq!(window.decide(start + PERIOD), Decision::PassAfter(5));
        assert_eq!(window.decide(start + PERIOD), Decision::Pass);
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;
        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn the_note_comes_before_the_message_and_is_json_where_that_is() {
        let lines = Lines::default();
        let format = Limited::new(Format::default().json().flatten_event(true), Note::Json);
        let limited = Arc::new(format);
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .fmt_fields(tracing_subscriber::fmt::format::JsonFields::new())
            .event_format(Shared(Arc::clone(&limited)))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..30 {
                if n == 25 {
                    for window in limited.windows.lock().unwrap().values_mut() {
                        window.since = window.since.checked_sub(PERIOD).unwrap();
                    }
                }
                tracing::warn!(n, "noisy");
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let parsed: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(parsed.len(), 20 + 1 + 5);
        assert_eq!(parsed[20]["left_out"], 5);
        assert_eq!((&parsed[21]["n"], &parsed[21]["message"]), (&25.into(), &"noisy".into()));
    }

    struct Shared<F>(Arc<Limited<F>>);

    impl<S, N, F> FormatEvent<S, N> for Shared<F>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        N: for<'a> FormatFields<'a> + 'static,
        F: FormatEvent<S, N>,
    {
        fn format_event(&self, c: &FmtContext<'_, S, N>, w: Writer<'_>, e: &Event<'_>) -> fmt::Result {
            self.0.format_event(c, w, e)
        }
    }

    #[test]
    fn a_noisy_place_falls_silent_and_others_do_not() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .event_format(Limited::new(Format::default(), Note::Text))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..30 {
                tracing::warn!(n, "noisy");
                tracing::info!(n, "chatty");
            }
            tracing::warn!("other");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("noisy").count(), 20);
        assert_eq!(text.matches("chatty").count(), 30);
        assert_eq!(text.matches("other").count(), 1);
    }
}
