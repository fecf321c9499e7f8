//! The one buffer into which a connection is read, and from which operations are taken as they lie there.

use super::parse::{Limits, Operation, Parser, ProtocolError};

/// Bytes that have come and are not done with. As large as it was made, but for the time of a message that is
/// larger.
#[derive(Debug)]
pub struct Inbound {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
    base: usize,
    parser: Parser,
    /// Something came since the last look found no whole operation.
    fresh: bool,
}

impl Inbound {
    /// A buffer of that many bytes.
    pub fn new(base: usize, limits: Limits) -> Self {
        let base = base.max(1);
        Self { buffer: vec![0; base], begin: 0, end: 0, base, parser: Parser::new(limits), fresh: false }
    }

    /// Where to put what comes next; empty while all of it is operations to be taken.
    pub fn room(&mut self) -> &mut [u8] {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
            if self.buffer.len() > self.base {
                self.buffer = vec![0; self.base];
            }
        } else if self.begin > 0 && (self.end == self.buffer.len() || self.parser.needed() > 0) {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        let wanted = match self.parser.needed() {
            // A line may be longer than the buffer.
            0 if self.end == self.buffer.len() && !self.fresh => self.buffer.len() * 2,
            needed => needed,
        };
        if wanted > self.buffer.len() {
            self.buffer.resize(wanted, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// So many bytes have been put into the [`room`](Self::room).
    pub fn filled(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.buffer.len());
        self.fresh |= bytes > 0;
    }

    /// What is there.
    pub fn operations(&mut self) -> Operations<'_> {
        let Self { buffer, begin, end, parser, fresh, .. } = self;
        Operations { bytes: &buffer[*begin..*end], taken: 0, begin, parser, fresh }
    }

    /// Whether there may be an operation to take.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Whether nothing is there, not even the beginning of an operation.
    pub fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// How large the buffer is.
    pub fn capacity(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn limits_mut(&mut self) -> &mut Limits {
        self.parser.limits_mut()
    }
}

/// The operations that lie in a buffer. What was not taken is there the next time.
#[derive(Debug)]
pub struct Operations<'a> {
    bytes: &'a [u8],
    taken: usize,
    begin: &'a mut usize,
    parser: &'a mut Parser,
    fresh: &'a mut bool,
}

impl<'a> Iterator for Operations<'a> {
    type Item = Result<Operation<'a>, ProtocolError>;

    /// After an error the rest is of no use.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.parser.next(&self.bytes[self.taken..]) {
            Ok((used, operation)) => {
                self.taken += used;
                *self.begin += used;
                *self.fresh &= operation.is_some();
                operation.map(Ok)
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl Operations<'_> {
    pub(super) fn limits_mut(&mut self) -> &mut Limits {
        self.parser.limits_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(inbound: &mut Inbound, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = inbound.room();
            let length = room.len().min(bytes.len());
            assert!(length > 0, "no room");
            room[..length].copy_from_slice(&bytes[..length]);
            inbound.filled(length);
            bytes = &bytes[length..];
            // A look makes room: what lies there is not yet a whole operation.
            assert_eq!(inbound.operations().count(), 0);
        }
    }

    #[test]
    fn the_buffer_is_large_only_while_a_large_message_is_in_it() {
        let mut inbound = Inbound::new(64, Limits::default());
        let line = format!("MSG a 1 {}\r\n", 1 << 20);
        put(&mut inbound, &[line.as_bytes(), &vec![b'x'; 1 << 20], b"\r"].concat());
        assert_eq!(inbound.capacity(), line.len() + (1 << 20) + 2, "as large as it must be");
        inbound.room()[0] = b'\n';
        inbound.filled(1);
        assert!(inbound.room().is_empty() && inbound.is_fresh(), "it is full of what is to be taken");
        assert_eq!(inbound.operations().count(), 1);
        assert_eq!((inbound.room().len(), inbound.capacity()), (64, 64));
    }

    #[test]
    fn what_is_not_taken_is_there_the_next_time() {
        let mut inbound = Inbound::new(64, Limits::default());
        let bytes = b"PING\r\nPONG\r\n+OK\r\nPI";
        inbound.room()[..bytes.len()].copy_from_slice(bytes);
        inbound.filled(bytes.len());
        assert_eq!(inbound.operations().next(), Some(Ok(Operation::Ping)));
        assert_eq!(inbound.operations().next(), Some(Ok(Operation::Pong)));
        assert!(inbound.is_fresh());
        assert_eq!(inbound.operations().collect::<Vec<_>>(), [Ok(Operation::Ok)]);
        assert!(
            !inbound.is_fresh() && !inbound.is_empty(),
            "the beginning of the next one waits for its end"
        );
    }
}
