//! What goes to the server: written into memory, and from there as fast as the server takes it.

use std::io::Write;

use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;

use super::Sid;
use crate::error::{Error, Result};

/// Bytes that the server has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    bytes: Vec<u8>,
    sent: usize,
}

/// Publishes wait up to so many bytes.
const PUBLISHES_UP_TO: usize = 8 << 20;
/// And everything up to so many: beyond, the link is given up.
const UP_TO: usize = 32 << 20;
/// Subscriptions are written as they are sent, in pieces of so many bytes.
const PIECE: usize = 256 << 10;
/// What stays allocated when all is sent.
const KEPT: usize = 1 << 20;

/// The options of `CONNECT`.
#[derive(Serialize)]
pub(super) struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    lang: &'static str,
    version: &'static str,
    protocol: u8,
    name: &'a str,
    tls_required: bool,
    echo: bool,
    headers: bool,
    no_responders: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
}

impl<'a> Connect<'a> {
    pub(super) fn new(
        name: &'a str,
        tls_required: bool,
        echo: bool,
        headers: bool,
        auth: async_nats::Auth,
    ) -> Self {
        Self {
            verbose: false,
            pedantic: false,
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            // Changes of the cluster are told by INFO.
            protocol: 1,
            name,
            tls_required,
            echo,
            headers,
            // The server wants both or none.
            no_responders: headers,
            user: auth.username,
            pass: auth.password,
            auth_token: auth.token,
            jwt: auth.jwt,
            nkey: auth.nkey,
            sig: auth.signature.map(|signature| BASE64URL_NOPAD.encode(&signature)),
        }
    }
}

impl Outbound {
    pub(super) fn connect(&mut self, connect: &Connect<'_>) -> Result<()> {
        let json = serde_json::to_vec(connect)
            .map_err(|e| Error::internal("the options of a connection to NATS are no JSON").caused_by(e))?;
        self.put(&[b"CONNECT ", &json, b"\r\n"]);
        Ok(())
    }

    pub(super) fn ping(&mut self) {
        self.put(&[b"PING\r\n"]);
    }

    pub(super) fn pong(&mut self) {
        self.put(&[b"PONG\r\n"]);
    }

    pub(super) fn subscribe(&mut self, sid: Sid, subject: &str, messages: Option<u64>) {
        self.put(&[b"SUB ", subject.as_bytes()]);
        self.format(format_args!(" {sid}\r\n"));
        if let Some(messages) = messages {
            self.format(format_args!("UNSUB {sid} {messages}\r\n"));
        }
    }

    pub(super) fn unsubscribe(&mut self, sid: Sid) {
        self.format(format_args!("UNSUB {sid}\r\n"));
    }

    /// `headers` is a whole block with its version line.
    pub(super) fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: Option<&[u8]>,
        payload: &[u8],
    ) -> Result<()> {
        let length = payload.len() + headers.map_or(0, <[u8]>::len);
        if self.waiting() + length > PUBLISHES_UP_TO.max(length) {
            return Err(Error::unavailable(format!(
                "the NATS server takes too little: {} bytes wait already",
                self.waiting()
            )));
        }
        self.put(&[if headers.is_some() { b"HPUB " } else { b"PUB " }, subject.as_bytes(), b" "]);
        if let Some(reply) = reply {
            self.put(&[reply.as_bytes(), b" "]);
        }
        if let Some(headers) = headers {
            self.format(format_args!("{} ", headers.len()));
        }
        self.format(format_args!("{length}\r\n"));
        self.put(&[headers.unwrap_or_default(), payload, b"\r\n"]);
        Ok(())
    }

    fn put(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
    }

    fn format(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a Vec does not fail.
        let _ = self.bytes.write_fmt(text);
    }

    /// What is to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = (self.sent + bytes).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            self.clear();
        } else if self.sent >= PIECE.max(self.bytes.len() / 2) {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.sent = 0;
    }

    /// Whether more subscriptions should be written.
    pub(super) fn wants_more(&self) -> bool {
        self.waiting() < PIECE
    }

    /// Whether the server has taken nothing for too long.
    pub(super) fn is_over(&self) -> bool {
        self.waiting() > UP_TO
    }
}

/// A subject that may be written into a line: what holds a blank or a line's end would be other words of the
/// protocol.
///
/// # Errors
/// [`Data`](crate::ErrorKind::Data).
pub(super) fn checked(subject: &str) -> Result<()> {
    let bad = |byte: u8| byte <= b' ' || byte == 0x7F;
    if subject.is_empty() || subject.len() > 1_024 || subject.bytes().any(bad) {
        let shown: String = subject.chars().take(80).collect();
        return Err(Error::data(format!("{shown:?} is no subject")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(out: &Outbound) -> String {
        String::from_utf8(out.unsent().to_vec()).unwrap()
    }

    #[test]
    fn what_is_written_is_the_protocol() {
        let mut out = Outbound::default();
        out.subscribe(Sid::new(7, 0), "a.*", None);
        out.subscribe(Sid::new(1, 1), "b", Some(2));
        out.unsubscribe(Sid::new(7, 0));
        out.publish("c", None, None, b"x").unwrap();
        out.publish("c", Some("r"), Some(b"NATS/1.0\r\n\r\n"), b"").unwrap();
        out.ping();
        out.pong();
        let wanted = "SUB a.* 7\r\nSUB b 1048577\r\nUNSUB 1048577 2\r\nUNSUB 7\r\nPUB c 1\r\nx\r\n\
                      HPUB c r 12 12\r\nNATS/1.0\r\n\r\n\r\nPING\r\nPONG\r\n";
        assert_eq!(text(&out), wanted);
        out.sent(5);
        assert_eq!(text(&out), wanted[5..]);
        out.sent(out.waiting());
        assert_eq!((text(&out).as_str(), out.waiting()), ("", 0));
    }

    #[test]
    fn headers_and_no_responders_go_together() {
        for headers in [true, false] {
            let mut out = Outbound::default();
            let mut auth = async_nats::Auth::new();
            auth.token = Some("t\"".into());
            out.connect(&Connect::new("n", false, true, headers, auth)).unwrap();
            let text = text(&out);
            let json = text.strip_prefix("CONNECT ").unwrap().strip_suffix("\r\n").unwrap();
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!((&json["headers"], &json["no_responders"]), (&headers.into(), &headers.into()));
            assert_eq!((&json["auth_token"], json.get("user")), (&"t\"".into(), None));
        }
    }

    #[test]
    fn publishes_wait_up_to_a_bound() {
        let mut out = Outbound::default();
        let payload = vec![0; 1 << 20];
        let mut taken = 0;
        while out.publish("a", None, None, &payload).is_ok() {
            taken += 1;
        }
        assert_eq!((taken, out.is_over()), (7, false));
        out.sent(3 << 20);
        out.publish("a", None, None, &payload).unwrap();
        while !out.is_over() {
            out.unsubscribe(Sid::new(1, 0));
        }
        out.clear();
        assert!(out.bytes.capacity() <= KEPT);
    }

    #[test]
    fn no_subject_becomes_another_operation() {
        for bad in ["", "a b", "a\tb", "a\r\nPUB x 0\r\n\r\n", "a\u{7F}", &"a".repeat(1_025)] {
            assert!(checked(bad).is_err(), "{bad:?}");
        }
        checked("fleet.0.*.speed").unwrap();
        checked("_INBOX.x.>").unwrap();
    }
}
