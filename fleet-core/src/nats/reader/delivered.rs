//! What the server says of a message that a consumer delivers: it writes that into the reply.

use super::parse::number;
use crate::time::Micros;

/// Where a message of a consumer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered<'a> {
    /// The stream.
    pub stream: &'a [u8],
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its sequence among what the consumer has delivered.
    pub consumer_sequence: u64,
    /// How often it has been delivered, this time included.
    pub deliveries: u64,
    /// When it was stored, server time.
    pub time: Micros,
    /// How many messages the consumer still has.
    pub pending: u64,
}

impl<'a> Delivered<'a> {
    /// Reads a message's reply. Of a message that no consumer delivers, such as a live one, the reply is the
    /// sender's and says nothing of the server's.
    pub fn parse(reply: &'a [u8]) -> Option<Self> {
        let rest = reply.strip_prefix(b"$JS.ACK.")?;
        let mut tokens = [&b""[..]; 10];
        let mut count = 0;
        for token in rest.split(|byte| *byte == b'.') {
            *tokens.get_mut(count)? = token;
            count += 1;
        }
        // Domain and account may stand before the stream, and a random token at the end.
        let tokens = match count {
            7 => &tokens[..7],
            9 | 10 => &tokens[2..9],
            _ => return None,
        };
        let [stream, _consumer, deliveries, sequence, consumer_sequence, nanos, pending] = tokens else {
            return None;
        };
        Some(Self {
            stream,
            sequence: number(sequence)?,
            consumer_sequence: number(consumer_sequence)?,
            deliveries: number(deliveries)?,
            time: i64::try_from(number(nanos)? / 1_000).ok()?,
            pending: number(pending)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_no_other() {
        let wanted = Delivered {
            stream: b"T",
            sequence: 42,
            consumer_sequence: 7,
            deliveries: 1,
            time: 1_795_593_600_123_456,
            pending: 3,
        };
        for reply in [
            "$JS.ACK.T.C.1.42.7.1795593600123456789.3",
            "$JS.ACK._.hash.T.C.1.42.7.1795593600123456789.3",
            "$JS.ACK.hub.hash.T.C.1.42.7.1795593600123456789.3.random",
        ] {
            assert_eq!(Delivered::parse(reply.as_bytes()), Some(wanted), "{reply}");
        }
        for reply in [
            "",
            "$JS.ACK.",
            "_INBOX.T.C.1.42.7.1795593600123456789.3",
            "$JS.ACK.T.C.1.42.7.1795593600123456789",
            "$JS.ACK.T.C.1.-42.7.1795593600123456789.3",
            "$JS.ACK.T.C.1.42.7.99999999999999999999.3",
            "$JS.ACK.a.b.T.C.1.42.7.1795593600123456789.3.x.y",
        ] {
            assert_eq!(Delivered::parse(reply.as_bytes()), None, "{reply}");
        }
    }
}
