//! Up to when everything is known to have come: what a server sent later may be lost with its connection.

use std::time::Duration;

use tokio::time::Instant;

/// What comes after a moment at which nothing was left to read was sent after it. So what is lost with a
/// connection was sent after the last such moment before the last bytes came: not after the moment at which they
/// were read, which is later by as long as nobody read them.
#[derive(Debug)]
pub(super) struct Heard {
    /// Nothing was left to read.
    empty: Instant,
    /// The same, before the last bytes came.
    since: Instant,
    looked: Instant,
    /// Until then the runtime may not know yet what there is to read.
    doubtful: Instant,
}

/// Who has not looked for so long stood still. What came meanwhile is not there at the first look, but soon.
const STILL: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(1);

impl Heard {
    pub(super) fn new(now: Instant) -> Self {
        Self { empty: now, since: now, looked: now, doubtful: now }
    }

    /// Somebody looks whether there is something to read.
    pub(super) fn look(&mut self, now: Instant) {
        if now.saturating_duration_since(self.looked) > STILL {
            self.doubtful = now + SOON;
        }
        self.looked = now;
    }

    /// The look found nothing, or nothing more.
    pub(super) fn nothing(&mut self) {
        if self.looked >= self.doubtful {
            self.empty = self.looked;
        }
    }

    /// The look found bytes.
    pub(super) fn bytes(&mut self) {
        self.since = self.empty;
    }

    /// What was sent before that has come.
    pub(super) fn since(&self) -> Instant {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_late_says_nothing_of_when_it_was_sent() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let mut heard = Heard::new(begun);
        for ms in (0..10_000).step_by(100) {
            heard.look(at(ms));
            if ms % 1_000 == 0 {
                heard.bytes();
            }
            heard.nothing();
        }
        assert_eq!(heard.since(), at(8_900), "a link that is silent since 9 s");
        // Stood still for 20 s: what came is not there yet, then it is.
        for (ms, bytes) in [(30_000, false), (30_010, false), (30_020, true)] {
            heard.look(at(ms));
            if bytes { heard.bytes() } else { heard.nothing() }
        }
        assert_eq!(heard.since(), at(9_900));
        for ms in [30_500, 31_100, 31_200] {
            heard.look(at(ms));
            heard.nothing();
        }
        heard.look(at(31_300));
        heard.bytes();
        assert_eq!(heard.since(), at(31_200));
    }
}
