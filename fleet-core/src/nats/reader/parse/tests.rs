use super::*;

fn all(bytes: &[u8]) -> (Vec<String>, Option<ProtocolError>) {
    let (mut parser, mut rest, mut found) = (Parser::new(Limits::default()), bytes, Vec::new());
    loop {
        match parser.next(rest) {
            Ok((used, operation)) => {
                rest = &rest[used..];
                let Some(operation) = operation else { return (found, None) };
                found.push(show(&operation));
            }
            Err(error) => return (found, Some(error)),
        }
    }
}

fn show(operation: &Operation<'_>) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    match operation {
        Operation::Message(Message { sid, subject, reply, headers, payload }) => {
            let reply = reply.map(|reply| format!(" re {}", text(reply))).unwrap_or_default();
            let headers = headers.map(|h| format!(" h {}", text(h.as_bytes()))).unwrap_or_default();
            format!("{sid} {}{reply}{headers} = {}", text(subject), text(payload))
        }
        Operation::Oversized { sid, subject, length } => format!("{sid} {} of {length}", text(subject)),
        Operation::Info(json) => format!("info {}", text(json)),
        Operation::Error(error) => format!("error {}", text(error)),
        other => format!("{other:?}"),
    }
}

#[test]
fn every_operation_is_read() {
    let bytes = b"INFO {\"a\":1} \r\n+OK\r\nPING\r\nPONG\r\n-ERR 'No, \"x\"'\r\nMSG a.b 1 0\r\n\r\nMSG a 2 re.x 3\r\nx\r\n\r\n\
        HMSG a 3 12 14\r\nNATS/1.0\r\n\r\nhi\r\nHMSG a 4 r 12 12\r\nNATS/1.0\r\n\r\n\r\nHMSG a 5 0 1\r\n!\r\nPING\n";
    let (found, error) = all(bytes);
    assert_eq!(error, None);
    let wanted = [
        r#"info {\"a\":1}"#,
        "Ok",
        "Ping",
        "Pong",
        r#"error No, \"x\""#,
        "1 a.b = ",
        r"2 a re re.x = x\r\n",
        r"3 a h NATS/1.0\r\n\r\n = hi",
        r"4 a re r h NATS/1.0\r\n\r\n = ",
        "5 a h  = !",
        "Ping",
    ];
    assert_eq!(found, wanted);
}

#[test]
fn a_subject_or_reply_may_hold_anything_but_blanks() {
    let (found, error) =
        all(b"MSG a\xFF\x0B 1 r\xC2\xA0\x00'\" 1\r\nx\r\nHMSG a 1 r\x0C\xE2\x80\xA8 1 1\r\n\xFF\r\n");
    assert_eq!(error, None);
    assert_eq!(found, [r#"1 a\xff\x0b re r\xc2\xa0\x00\'\" = x"#, r"1 a re r\x0c\xe2\x80\xa8 h \xff = "]);
}

#[test]
fn what_no_server_sends_is_an_error_at_once() {
    for bytes in [
        "HTTP/1.1 400 Bad Request\r\n",
        "SSH-2.0-x\r\n",
        "\r\n",
        "msg a 1 0\r\n",
        "\u{16}",
        "PINGS\r\n",
        "MSGa 1 0\r\n",
    ] {
        let (found, error) = all(bytes.as_bytes());
        assert!(matches!(error, Some(ProtocolError::UnknownOperation(_))), "{bytes:?}: {error:?}");
        assert!(found.is_empty());
    }
    for line in [
        "MSG",
        "MSG a 1",
        "MSG a x 1",
        "MSG a 1 x",
        "MSG a 1 r 1 1",
        "MSG a 1 -1",
        "MSG a 1 +1",
        "MSG a 99999999999999999999 1",
        "HMSG a 1 1",
        "HMSG a 1 2 1",
        "HMSG a 1 r 1 1 1",
        "HMSG a 1 99999999999999999999 1",
    ] {
        let (_, error) = all(format!("{line}\r\nxx\r\n").as_bytes());
        assert_eq!(error, Some(ProtocolError::Arguments(line.to_owned())));
    }
    for bytes in ["MSG a 1 1\r\nxy\r\n", "MSG a 1 1\r\nx\n\nPING\r\n"] {
        assert_eq!(all(bytes.as_bytes()).1, Some(ProtocolError::Unterminated));
    }
}

#[test]
fn lines_and_messages_have_bounds() {
    let limits = Limits { line: 20, message: 4, oversized: 100 };
    let mut parser = Parser::new(limits);
    assert_eq!(parser.next(&[b'M'; 20]), Ok((0, None)));
    assert_eq!(parser.next(&[b'M'; 21]), Err(ProtocolError::LineTooLong(20)));
    let whole = b"MSG aaaaaaaaaaaaaaaaaaaaaaaaaa 1 0\r\n\r\n";
    assert_eq!(Parser::new(limits).next(whole), Err(ProtocolError::LineTooLong(20)));
    assert_eq!(Parser::new(limits).next(b"MSG a 1 101\r\n"), Err(ProtocolError::MessageTooLong(101)));

    let mut parser = Parser::new(limits);
    let (used, operation) = parser.next(b"MSG a 1 5\r\nhe").unwrap();
    assert_eq!(used, 11);
    assert_eq!(operation, Some(Operation::Oversized { sid: Sid::from_wire(1), subject: b"a", length: 5 }));
    assert_eq!(parser.next(b"he"), Ok((2, None)));
    assert_eq!(parser.next(b"llo\r\nPING\r\n"), Ok((11, Some(Operation::Ping))));
}

#[test]
fn a_line_and_a_message_in_single_bytes_are_looked_at_once() {
    let bytes = b"MSG a 1 10\r\n0123456789\r\n";
    let mut parser = Parser::new(Limits::default());
    for end in 1..bytes.len() {
        assert_eq!(parser.next(&bytes[..end]), Ok((0, None)));
        let (scanned, needed) = if end < 12 { (end, 0) } else { (11, bytes.len()) };
        assert_eq!((parser.scanned, parser.needed), (scanned, needed), "after {end}");
    }
    let (used, operation) = parser.next(bytes).unwrap();
    assert!(used == bytes.len() && operation.is_some());
}

#[test]
fn a_message_reads_the_same_however_its_words_are_parted() {
    for (line, wanted) in [
        ("a 1 0", "1 a = "),
        ("a  1   0 ", "1 a = "),
        ("a 1 12 0", "1 a re 12 = "),
        ("a 1 12.b 0", "1 a re 12.b = "),
        ("a 1  12.b  0", "1 a re 12.b = "),
        ("a 18446744073709551615 0", "18446744073709551615 a = "),
        ("a 1 999999999999999999999 0", "1 a re 999999999999999999999 = "),
        ("a 0000000000000000000001 0000000000000000000000", "1 a = "),
    ] {
        let (found, error) = all(format!("MSG {line}\r\n\r\n").as_bytes());
        assert_eq!((found, error), (vec![wanted.to_owned()], None), "{line}");
    }
}
