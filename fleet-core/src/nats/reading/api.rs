//! What JetStream's API is asked and answers. No header of a vehicle's is in it as it came.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::Order;
use super::place::Unreadable;
use crate::error::{Error, Result};
use crate::time::parse;

/// How long the server keeps a consumer that nobody reads, in nanoseconds.
const KEPT: u64 = 30_000_000_000;

/// A request for a consumer.
#[derive(Debug, Serialize)]
pub(super) struct Create<'a> {
    stream_name: &'a str,
    config: Config<'a>,
}

#[derive(Debug, Serialize)]
struct Config<'a> {
    name: &'a str,
    deliver_policy: &'static str,
    opt_start_seq: u64,
    ack_policy: &'static str,
    max_deliver: u32,
    replay_policy: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    filter_subjects: &'a [String],
    inactive_threshold: u64,
    num_replicas: u32,
    mem_storage: bool,
}

impl<'a> Create<'a> {
    /// Of what is behind that sequence.
    pub(super) fn new(order: &'a Order, name: &'a str, behind: u64) -> Self {
        let config = Config {
            name,
            deliver_policy: "by_start_sequence",
            opt_start_seq: behind.saturating_add(1),
            ack_policy: "none",
            max_deliver: 1,
            replay_policy: "instant",
            filter_subjects: &order.filter,
            inactive_threshold: KEPT,
            num_replicas: 1,
            mem_storage: true,
        };
        Self { stream_name: &order.stream, config }
    }
}

/// A request for messages, and its number among those of its consumer.
#[derive(Debug)]
pub(super) struct Pull {
    pub number: u64,
    pub request: PullRequest,
}

#[derive(Debug, Serialize)]
pub(super) struct PullRequest {
    pub batch: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Nanoseconds.
    pub expires: u64,
}

#[derive(Serialize)]
struct Next<'a> {
    seq: u64,
    next_by_subj: &'a str,
}

/// A request for the first message of these subjects from a sequence on.
pub(super) fn next_by_subject(seq: u64, next_by_subj: &str) -> Result<Vec<u8>> {
    written(&Next { seq, next_by_subj })
}

pub(super) fn written(request: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(request).map_err(|e| Error::internal("a request to JetStream is no JSON").caused_by(e))
}

/// What the API has answered.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    error: Option<ApiError>,
    num_pending: Option<u64>,
    delivered: Option<Delivered>,
    message: Option<Message>,
}

#[derive(Debug, Deserialize)]
struct ApiError {
    code: u16,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

#[derive(Debug, Deserialize)]
struct Delivered {
    stream_seq: u64,
}

#[derive(Debug, Deserialize)]
struct Message {
    subject: String,
    seq: u64,
    #[serde(default)]
    data: String,
    time: String,
}

/// The API's code for a message that there is not.
const NO_MESSAGE: u32 = 10_037;

impl Answer {
    /// # Errors
    /// What the server refuses, by kind: whether it may pass.
    pub(super) fn parse(stream: &str, answer: &[u8]) -> Result<Self> {
        let answer: Self = serde_json::from_slice(answer)
            .map_err(|e| Error::unavailable("an answer of JetStream's API is not understood").caused_by(e))?;
        match &answer.error {
            Some(error) if error.err_code != NO_MESSAGE => {
                let why = format!("JetStream refuses to read the stream {stream}: {}", error.description);
                // A missing stream, or a request that it does not like; the others are its own trouble.
                let lasts = (400..500).contains(&error.code) && error.code != 408;
                Err(if lasts { Error::configuration(why) } else { Error::unavailable(why) })
            }
            _ => Ok(answer),
        }
    }

    /// How many messages a new consumer has, and the sequence before the first that it looks at.
    pub(super) fn consumer(&self) -> Result<(u64, u64)> {
        match (self.num_pending, &self.delivered) {
            (Some(pending), Some(delivered)) => Ok((pending, delivered.stream_seq)),
            _ => Err(Error::unavailable("JetStream's answer for a consumer says not how much it has")),
        }
    }

    /// The message that was asked for, if there is one.
    pub(super) fn message(self) -> Result<Option<Unreadable>> {
        let Some(Message { subject, seq, data, time }) = self.message else { return Ok(None) };
        let odd = |why: String| Error::unavailable(format!("a stored message is told oddly: {why}"));
        let payload = BASE64.decode(data.as_bytes()).map_err(|e| odd(e.to_string()))?;
        Ok(Some(Unreadable {
            subject,
            sequence: Some(seq),
            stored: Some(parse(&time).map_err(odd)?),
            payload: payload.into(),
            why: "the NATS server's words are not understood where it comes".to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_refusal_that_may_pass_is_told_from_one_that_does_not() {
        let kind = |json: &str| Answer::parse("T", json.as_bytes()).map(drop).map_err(|e| e.kind());
        let refused = |code: u16, err_code: u32| {
            kind(&format!(r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"x"}}}}"#))
        };
        assert_eq!(refused(404, 10_059), Err(ErrorKind::Configuration), "no stream");
        assert_eq!(refused(503, 10_008), Err(ErrorKind::Unavailable), "no leader");
        assert_eq!(refused(404, NO_MESSAGE), Ok(()));
        assert_eq!(kind("+OK"), Err(ErrorKind::Unavailable));
    }

    #[test]
    fn a_message_comes_in_base64_and_none_is_none() {
        let json =
            br#"{"type":"x","message":{"subject":"fleet.0.V.speed","seq":7,"hdrs":"eA==","data":"eHl6",
                        "time":"2026-11-25T08:00:00.123456789Z"}}"#;
        let found = Answer::parse("T", json).unwrap().message().unwrap().unwrap();
        assert_eq!((found.sequence, &found.payload[..]), (Some(7), &b"xyz"[..]));
        assert_eq!(found.stored, parse("2026-11-25T08:00:00.123456Z").ok());
        let none = br#"{"error":{"code":404,"err_code":10037,"description":"no message found"}}"#;
        assert_eq!(Answer::parse("T", none).unwrap().message().unwrap(), None);
    }
}
