//! The NATS reader: however a server's bytes are cut, they are the same operations, in bounded memory.

use fleet_core::nats::reader::{Headers, Inbound, Limits, Message, Operation, Parser, ProtocolError};

/// Small enough to be reached.
const LIMITS: Limits = Limits { line: 48, message: 64, oversized: 160 };

/// Asserts what must hold of bytes as what a server sends. The first two say how they are cut.
pub fn check(bytes: &[u8]) {
    let [base, cuts, stream @ ..] = bytes else { return };
    let (whole, error) = in_one_piece(stream, LIMITS);
    assert_eq!(in_pieces(*base, *cuts, stream), (whole.clone(), error), "cut by {base} and {cuts}");
    let again: Vec<u8> = whole.iter().flat_map(|operation| operation.bytes.iter().copied()).collect();
    // With its end of a line in full, quotes and all, a line may be a little longer.
    let longer = Limits { line: 2 * LIMITS.line, ..LIMITS };
    assert_eq!(in_one_piece(&again, longer), (whole, None), "written and read again");
    headers(stream);
}

/// An operation, by what it says and as a server would write it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    said: String,
    bytes: Vec<u8>,
}

/// Which error; the texts quote what there was at the time.
type Failed = Option<std::mem::Discriminant<ProtocolError>>;

fn in_one_piece(stream: &[u8], limits: Limits) -> (Vec<Found>, Failed) {
    let (mut parser, mut rest, mut found) = (Parser::new(limits), stream, Vec::new());
    loop {
        match parser.next(rest) {
            Ok((used, Some(operation))) => {
                assert!((1..=rest.len()).contains(&used), "an operation of no bytes");
                rest = &rest[used..];
                found.push(of(&operation));
            }
            Ok((used, None)) => {
                assert!(used <= rest.len());
                return (found, None);
            }
            Err(error) => return (found, Some(failed(&error))),
        }
    }
}

fn in_pieces(base: u8, cuts: u8, mut stream: &[u8]) -> (Vec<Found>, Failed) {
    let base = usize::from(base);
    let mut inbound = Inbound::new(base, LIMITS);
    // A line, a message of the longest and its end; a line without end makes the buffer twice as large.
    let most = base.max(LIMITS.line + 1 + LIMITS.message + 2).max(2 * LIMITS.line);
    let (mut found, mut piece) = (Vec::new(), usize::from(cuts));
    while !stream.is_empty() {
        piece = (piece * 5 + 3) % (usize::from(cuts) + 1);
        let room = inbound.room();
        assert!(!room.is_empty(), "no room although all was taken");
        let length = (piece + 1).min(room.len()).min(stream.len());
        room[..length].copy_from_slice(&stream[..length]);
        stream = &stream[length..];
        inbound.filled(length);
        assert!(inbound.capacity() <= most, "{} bytes", inbound.capacity());
        for operation in inbound.operations() {
            match operation {
                Ok(operation) => found.push(of(&operation)),
                Err(error) => return (found, Some(failed(&error))),
            }
        }
        assert!(!inbound.is_fresh());
    }
    (found, None)
}

fn failed(error: &ProtocolError) -> std::mem::Discriminant<ProtocolError> {
    assert!((1..400).contains(&error.to_string().len()));
    std::mem::discriminant(error)
}

fn of(operation: &Operation<'_>) -> Found {
    let bytes = match operation {
        Operation::Message(message) => written(message),
        Operation::Oversized { sid, subject, length } => {
            assert!((LIMITS.message + 1..=LIMITS.oversized).contains(length));
            let line = [b"MSG ", *subject, format!(" {sid} {length}\r\n").as_bytes()].concat();
            [line, vec![b'x'; length + 2]].concat()
        }
        Operation::Info(json) => [b"INFO ", *json, b"\r\n"].concat(),
        Operation::Error(text) => [b"-ERR '", *text, b"'\r\n"].concat(),
        Operation::Ping => b"PING\r\n".to_vec(),
        Operation::Pong => b"PONG\r\n".to_vec(),
        Operation::Ok => b"+OK\r\n".to_vec(),
    };
    Found { said: format!("{operation:?}"), bytes }
}

fn written(message: &Message<'_>) -> Vec<u8> {
    let Message { sid, subject, reply, headers, payload } = message;
    assert!(!subject.is_empty() && reply.is_none_or(|reply| !reply.is_empty()));
    let mut line = [if headers.is_some() { &b"HMSG "[..] } else { b"MSG " }, subject].concat();
    line.extend(format!(" {sid} ").into_bytes());
    if let Some(reply) = reply {
        line.extend_from_slice(reply);
        line.push(b' ');
    }
    let block = headers.map_or(&[][..], Headers::as_bytes);
    let length = block.len() + payload.len();
    assert!(length <= LIMITS.message);
    if headers.is_some() {
        line.extend(format!("{} ", block.len()).into_bytes());
    }
    line.extend(format!("{length}\r\n").into_bytes());
    [&line, block, payload, b"\r\n"].concat()
}

/// Whatever a sender wrote, what a server adds to it for a direct get is what counts.
fn headers(block: &[u8]) {
    let headers = Headers::new(block);
    assert!(headers.status().is_none_or(|status| status.code < 1_000));
    assert!(headers.last("Nats-Sequence").is_none_or(|value| value.len() + 14 <= block.len()));
    let mut answer = match block.len() {
        0..=2 => b"NATS/1.0\r\n".to_vec(),
        length => block[..length - 2].to_vec(),
    };
    answer.extend_from_slice(
        b"Nats-Stream: T\r\nNats-Subject: fleet.0.V.on\r\nNats-Sequence: 7\r\n\
          Nats-Time-Stamp: 2026-11-25T08:00:00.5Z\r\n\r\n",
    );
    let stored = Headers::new(&answer).stored().expect("the server's fields are there");
    assert_eq!(
        (stored.subject, stored.sequence, stored.time),
        (&b"fleet.0.V.on"[..], 7, 1_795_593_600_500_000)
    );
}
