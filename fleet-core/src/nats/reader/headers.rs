//! Headers, of which nothing can be relied on but what the server itself has put there.
//!
//! A server stores and delivers any bytes as a header block. It adds its own fields behind those of the sender,
//! so that of several fields of a name the last is the server's, where it has put one.

use super::parse::number;
use crate::time::{self, Micros};

/// A header block as it came, not parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a>(&'a [u8]);

/// A status that stands in the place of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status<'a> {
    /// Such as 404.
    pub code: u16,
    /// Such as `No Messages`.
    pub description: &'a [u8],
}

/// What the server says of a stored message in the answer to a direct get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored<'a> {
    /// Where it was published.
    pub subject: &'a [u8],
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When it was stored, server time.
    pub time: Micros,
}

impl<'a> Headers<'a> {
    /// Any bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes as they came.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The status of the first line, where there is one. Whoever published the message may have written it: it
    /// says something of the server's only on the owner's inbox, in a message without reply that is not
    /// [`stored`](Self::stored).
    pub fn status(self) -> Option<Status<'a>> {
        let line = lines(self.0).next()?.strip_prefix(b"NATS/1.0")?;
        let line = line.trim_ascii();
        let (code, description) = line.split_at_checked(3)?;
        if description.first().is_some_and(|byte| *byte != b' ') {
            return None;
        }
        let code = u16::try_from(number(code)?).ok()?;
        Some(Status { code, description: description.trim_ascii() })
    }

    /// The value of the last field of that name; the server's, if it is one of a name that the server has
    /// added.
    pub fn last(self, name: &str) -> Option<&'a [u8]> {
        // The first line is no field, whatever stands there.
        let fields = &self.0[memchr::memchr(b'\n', self.0)? + 1..];
        let mut rest = fields;
        while !rest.is_empty() {
            let begin = memchr::memrchr(b'\n', &rest[..rest.len() - 1]).map_or(0, |at| at + 1);
            if let Some(value) = field(&rest[begin..], name) {
                return Some(value);
            }
            rest = &rest[..begin];
        }
        None
    }

    /// What the server says of the message, if this is the answer to a direct get. Whatever the sender wrote,
    /// status and fields like these included, doesn't change it.
    pub fn stored(self) -> Option<Stored<'a>> {
        let sequence = number(self.last("Nats-Sequence")?)?;
        let time = std::str::from_utf8(self.last("Nats-Time-Stamp")?).ok()?;
        let time = time::parse(time).ok()?;
        Some(Stored { subject: self.last("Nats-Subject")?, sequence, time })
    }
}

/// What stands behind the name and a colon.
fn field<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
    Some(value.trim_ascii())
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(block: &str) -> Option<(u16, &str)> {
        let status = Headers::new(block.as_bytes()).status()?;
        Some((status.code, std::str::from_utf8(status.description).unwrap()))
    }

    #[test]
    fn a_status_is_three_digits_behind_the_version() {
        assert_eq!(status("NATS/1.0 404 No Messages\r\n\r\n"), Some((404, "No Messages")));
        assert_eq!(status("NATS/1.0 503\r\n\r\n"), Some((503, "")));
        assert_eq!(status("NATS/1.0   100   Idle\r\n"), Some((100, "Idle")));
        assert_eq!(status("NATS/1.0 204"), Some((204, "")));
        for none in
            ["", "NATS/1.0\r\n\r\n", "NATS/1.0 x04 y\r\n", "NATS/1.0 4044\r\n", "NATS/2.0 404\r\n", "\r\n"]
        {
            assert_eq!(status(none), None, "{none:?}");
        }
    }

    #[test]
    fn the_servers_fields_count_whatever_the_sender_wrote() {
        let added = "Nats-Stream: T\r\nNats-Subject: fleet.0.V.off\r\nNats-Sequence: 7\r\n\
                     Nats-Time-Stamp: 2026-11-25T08:00:00.123456789Z\r\n\r\n";
        let forged = "Nats-Sequence: 9\r\nNats-Subject: x\r\nNats-Time-Stamp: 1999-01-01T00:00:00Z\r\n";
        let blocks = [
            "NATS/1.0\r\n".to_owned(),
            "NATS/1.0 404 Message Not Found\r\n".to_owned(),
            format!("NATS/1.0\r\n{forged}"),
            format!("bad\u{0}line{forged}no colon\n:\n\n\r\n"),
            "cut in mid-line".to_owned(),
            format!("NATS/1.0\r\n{}", "x".repeat(65_536)),
        ];
        for block in blocks {
            let block = block + added;
            let headers = Headers::new(block.as_bytes());
            let stored = headers.stored().unwrap();
            assert_eq!((stored.sequence, stored.subject), (7, &b"fleet.0.V.off"[..]), "{block}");
            assert_eq!(stored.time, time::parse("2026-11-25T08:00:00.123456Z").unwrap());
        }
    }

    #[test]
    fn what_is_not_there_or_no_number_is_none() {
        let headers = Headers::new(b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 12\r\nA:\r\nB:b");
        assert_eq!(headers.last("Nats-Pending-Messages"), Some(&b"12"[..]));
        assert_eq!((headers.last("A"), headers.last("B")), (Some(&b""[..]), Some(&b"b"[..])));
        assert_eq!(
            (headers.last("Nats-Pending"), headers.last("NATS/1.0 408 Request Timeout")),
            (None, None)
        );
        assert_eq!(headers.stored(), None);
        assert_eq!(
            Headers::new(b"Nats-Sequence: 1").last("Nats-Sequence"),
            None,
            "the first line is no field"
        );
        assert_eq!(Headers::new(b"").last("A"), None);
        assert_eq!(Headers::new(b"\n").last("A"), None);
    }
}
