//! A link that is open only on our side is noticed by what does not come.

/// Seconds in which nothing came. They are counted and not measured, so that a process that stood still for a
/// while doesn't take that for the server's silence.
#[derive(Debug, Default)]
pub(super) struct Silence {
    heard: bool,
    seconds: u32,
}

/// What follows from another second.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    Fine,
    /// The server is to be asked.
    Ask,
    /// Nobody is there.
    Dead,
}

/// Seconds of silence after which the server is asked.
const ASK: u32 = 4;
/// Seconds of silence after which nobody is there.
pub(super) const DEAD: u32 = 9;

impl Silence {
    /// Something came.
    pub(super) fn heard(&mut self) {
        self.heard = true;
    }

    /// Another second of a process that runs.
    pub(super) fn beat(&mut self) -> Beat {
        if std::mem::take(&mut self.heard) {
            self.seconds = 0;
            return Beat::Fine;
        }
        self.seconds += 1;
        match self.seconds {
            ASK => Beat::Ask,
            DEAD.. => Beat::Dead,
            _ => Beat::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_server_is_asked_once_and_given_up_within_ten_seconds() {
        let mut silence = Silence::default();
        silence.heard();
        let beats: Vec<Beat> = (0..10).map(|_| silence.beat()).collect();
        let at = |wanted: Beat| beats.iter().position(|beat| *beat == wanted);
        assert_eq!((at(Beat::Ask), at(Beat::Dead)), (Some(4), Some(9)));
        assert_eq!(beats.iter().filter(|beat| **beat == Beat::Ask).count(), 1);
    }

    #[test]
    fn an_answer_begins_it_anew() {
        let mut silence = Silence::default();
        for _ in 0..100 {
            (0..7).for_each(|_| assert_ne!(silence.beat(), Beat::Dead));
            silence.heard();
        }
    }
}
