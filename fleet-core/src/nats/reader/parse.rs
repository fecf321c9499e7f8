//! What a server says, one operation after the other. Knows no I/O and copies nothing.

use memchr::memchr;

use super::Headers;
use super::sid::Sid;

/// What a server may send at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a line without its end. A vehicle chooses a reply of up to the server's `max_control_line`,
    /// 4 KiB unless configured otherwise.
    pub line: usize,
    /// Bytes of a message, headers included, that are kept. A longer one is passed over.
    pub message: usize,
    /// Bytes of a message, headers included, beyond which the sender is no NATS server.
    pub oversized: usize,
}

impl Default for Limits {
    /// Lines of 64 KiB, messages of 1 MiB and what a server adds to it, nothing beyond 128 MiB.
    fn default() -> Self {
        Self { line: 64 << 10, message: (1 << 20) + Self::ADDED, oversized: 128 << 20 }
    }
}

impl Limits {
    /// What a server may add to a stored message, such as the fields of a direct get, which hold its subject.
    const ADDED: usize = 64 << 10;

    /// Messages of up to what the server takes from its clients.
    pub(super) fn announced(&mut self, max_payload: usize) {
        self.message = max_payload.saturating_add(Self::ADDED).min(self.oversized);
    }
}

/// One operation of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// `MSG` or `HMSG`.
    Message(Message<'a>),
    /// A message of that many bytes, more than [`Limits::message`], which are passed over.
    Oversized {
        /// Whose it is.
        sid: Sid,
        /// Where it was published.
        subject: &'a [u8],
        /// Its length, headers included.
        length: usize,
    },
    /// `INFO`, the JSON as it came.
    Info(&'a [u8]),
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR`, without its quotes.
    Error(&'a [u8]),
}

/// A message as it came. Neither subject nor reply need be UTF-8: a server checks only what it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Whose it is.
    pub sid: Sid,
    /// Where it was published.
    pub subject: &'a [u8],
    /// Where the sender wants an answer. A vehicle writes here what it likes.
    pub reply: Option<&'a [u8]>,
    /// The headers, where there are any.
    pub headers: Option<Headers<'a>>,
    /// The payload.
    pub payload: &'a [u8],
}

/// Why these bytes can't be those of a NATS server. The connection is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the texts say it")]
pub enum ProtocolError {
    #[error("it speaks another protocol: {0:?}")]
    UnknownOperation(String),
    #[error("a line has more than {0} bytes")]
    LineTooLong(usize),
    #[error("an operation without the right arguments: {0:?}")]
    Arguments(String),
    #[error("a message of {0} bytes is longer than any")]
    MessageTooLong(usize),
    #[error("a message does not end where its length says")]
    Unterminated,
}

/// Takes operations off the front of bytes that come in any pieces.
#[derive(Debug, Clone, Default)]
pub struct Parser {
    limits: Limits,
    /// So much at the front is known to hold no end of a line, but for that of a known message.
    scanned: usize,
    /// With less than this there is no whole operation.
    needed: usize,
    /// What is left of a message that is passed over.
    skip: usize,
}

impl Parser {
    /// A parser at the beginning of a connection.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// What is taken at most.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn limits_mut(&mut self) -> &mut Limits {
        &mut self.limits
    }

    /// How many bytes the next operation has at least, as far as is known.
    pub(super) fn needed(&self) -> usize {
        self.needed
    }

    /// The next operation, and how many bytes at the front are done with: the next call is given those behind
    /// them, and whatever came after.
    ///
    /// # Errors
    /// [`ProtocolError`], always at the same operation however the bytes were cut.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<(usize, Option<Operation<'a>>), ProtocolError> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let rest = &bytes[skipped..];
        if rest.is_empty() || rest.len() < self.needed {
            return Ok((skipped, None));
        }
        if !matches!(rest[0], b'M' | b'H' | b'P' | b'I' | b'+' | b'-') {
            return Err(ProtocolError::UnknownOperation(excerpt(rest)));
        }
        let end = memchr(b'\n', &rest[self.scanned..]).map(|at| self.scanned + at);
        self.scanned = end.unwrap_or(rest.len());
        if self.scanned > self.limits.line {
            return Err(ProtocolError::LineTooLong(self.limits.line));
        }
        let Some(end) = end else { return Ok((skipped, None)) };
        let Some((operation, used)) = self.operation(rest, end)? else { return Ok((skipped, None)) };
        (self.scanned, self.needed) = (0, 0);
        Ok((skipped + used, Some(operation)))
    }

    /// The operation whose line ends there, with its length.
    fn operation<'a>(
        &mut self,
        rest: &'a [u8],
        end: usize,
    ) -> Result<Option<(Operation<'a>, usize)>, ProtocolError> {
        let line = &rest[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(arguments) = line.strip_prefix(b"MSG ") {
            return self.message(rest, end, Line::of_msg(arguments));
        }
        let (word, arguments) = line.split_at(memchr(b' ', line).unwrap_or(line.len()));
        let operation = match word {
            b"MSG" => return Err(ProtocolError::Arguments(excerpt(line))),
            b"HMSG" => return self.message(rest, end, Line::of_hmsg(arguments)),
            b"PING" => Operation::Ping,
            b"PONG" => Operation::Pong,
            b"+OK" => Operation::Ok,
            b"-ERR" => Operation::Error(unquoted(arguments.trim_ascii())),
            b"INFO" => Operation::Info(arguments.trim_ascii()),
            _ => return Err(ProtocolError::UnknownOperation(excerpt(line))),
        };
        Ok(Some((operation, end + 1)))
    }

    fn message<'a>(
        &mut self,
        rest: &'a [u8],
        end: usize,
        line: Option<Line<'a>>,
    ) -> Result<Option<(Operation<'a>, usize)>, ProtocolError> {
        let Some(Line { sid, subject, reply, headers, length }) = line else {
            return Err(ProtocolError::Arguments(excerpt(&rest[..end])));
        };
        let begin = end + 1;
        if length > self.limits.oversized {
            return Err(ProtocolError::MessageTooLong(length));
        }
        if length > self.limits.message {
            self.skip = length + 2;
            return Ok(Some((Operation::Oversized { sid, subject, length }, begin)));
        }
        let used = begin + length + 2;
        if rest.len() < used {
            self.needed = used;
            return Ok(None);
        }
        let (message, crlf) = rest[begin..used].split_at(length);
        if crlf != b"\r\n" {
            return Err(ProtocolError::Unterminated);
        }
        let (headers, payload) = match headers {
            Some(length) => {
                let (headers, payload) = message.split_at(length);
                (Some(Headers::new(headers)), payload)
            }
            None => (None, message),
        };
        Ok(Some((Operation::Message(Message { sid, subject, reply, headers, payload }), used)))
    }
}

/// The arguments of `MSG` and `HMSG`.
struct Line<'a> {
    sid: Sid,
    subject: &'a [u8],
    reply: Option<&'a [u8]>,
    /// Bytes of headers, not more than `length`.
    headers: Option<usize>,
    length: usize,
}

impl<'a> Line<'a> {
    /// `subject sid [reply] length`
    #[inline]
    fn of_msg(bytes: &'a [u8]) -> Option<Self> {
        Self::as_written(bytes).or_else(|| Self::of_words(bytes))
    }

    /// With one blank between two words, as servers write it: most of what a reader does is this.
    #[inline]
    fn as_written(bytes: &'a [u8]) -> Option<Self> {
        let (subject, rest) = word(bytes)?;
        let (sid, rest) = leading_number(rest)?;
        let rest = rest.strip_prefix(b" ")?;
        let (reply, length) = match leading_number(rest) {
            Some((length, [])) => (None, length),
            // A reply may begin with digits.
            _ => {
                let (reply, rest) = word(rest)?;
                let (length, rest) = leading_number(rest)?;
                if !rest.is_empty() {
                    return None;
                }
                (Some(reply), length)
            }
        };
        let length = usize::try_from(length).ok()?;
        Some(Self { sid: Sid::from_wire(sid), subject, reply, headers: None, length })
    }

    #[cold]
    fn of_words(bytes: &'a [u8]) -> Option<Self> {
        let (subject, sid, reply, length) = match arguments(bytes)? {
            ([subject, sid, length, ..], 3) => (subject, sid, None, length),
            ([subject, sid, reply, length, _], 4) => (subject, sid, Some(reply), length),
            _ => return None,
        };
        let length = usize::try_from(number(length)?).ok()?;
        Some(Self { sid: Sid::from_wire(number(sid)?), subject, reply, headers: None, length })
    }

    /// `subject sid [reply] header-length length`
    fn of_hmsg(bytes: &'a [u8]) -> Option<Self> {
        let (subject, sid, reply, headers, length) = match arguments(bytes)? {
            ([subject, sid, headers, length, _], 4) => (subject, sid, None, headers, length),
            ([subject, sid, reply, headers, length], 5) => (subject, sid, Some(reply), headers, length),
            _ => return None,
        };
        let length = usize::try_from(number(length)?).ok()?;
        let headers = Some(usize::try_from(number(headers)?).ok().filter(|&headers| headers <= length)?);
        Some(Self { sid: Sid::from_wire(number(sid)?), subject, reply, headers, length })
    }
}

/// What blanks part, which no subject holds; five at most. Other white space is a vehicle's to use in a reply.
#[inline]
fn arguments(mut rest: &[u8]) -> Option<([&[u8]; 5], usize)> {
    let (mut found, mut count) = ([&[][..]; 5], 0);
    while let [first, behind @ ..] = rest {
        if *first == b' ' {
            rest = behind;
            continue;
        }
        let (argument, behind) = rest.split_at(memchr(b' ', rest).unwrap_or(rest.len()));
        *found.get_mut(count)? = argument;
        (rest, count) = (behind, count + 1);
    }
    Some((found, count))
}

/// A word and what stands behind its blank.
#[inline]
fn word(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b' ', bytes).filter(|end| *end > 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// A number of up to 18 digits, which fits, and what stands behind it.
#[inline]
fn leading_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (mut number, mut digits) = (0, 0);
    while let Some(digit) = bytes.get(digits).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)
    {
        number = number * 10 + u64::from(digit);
        digits += 1;
        if digits > 18 {
            return None;
        }
    }
    (digits > 0).then(|| (number, &bytes[digits..]))
}

#[inline]
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"'").and_then(|text| text.strip_suffix(b"'")).unwrap_or(text)
}

/// The beginning of what somebody sent, for an error.
fn excerpt(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned()
}

#[cfg(test)]
mod tests;
