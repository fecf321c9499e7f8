//! The queue of bind requests: at most one of each vehicle, waiting or bound.

use std::time::Duration;

use async_nats::Client;
use serde::Deserialize;

use super::Names;
use super::payloads::BindRequest;
use crate::error::{Error, Result};

/// When a message that can't be dealt with now is to be delivered again, having been delivered so often: after
/// 1, 2, 4 … seconds, a minute at most.
pub(super) fn pause_after(delivered: i64) -> Duration {
    let seconds = 1_u64 << delivered.clamp(1, 7).saturating_sub(1);
    Duration::from_secs(seconds.min(60))
}

/// What the queue said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enqueued {
    /// The request waits now.
    Yes,
    /// The vehicle waits or is bound already.
    Already,
}

#[derive(Deserialize)]
struct Answer {
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    err_code: u32,
    #[serde(default)]
    description: String,
}

/// Puts a request into the queue.
///
/// # Errors
/// [`Unavailable`](crate::ErrorKind::Unavailable) if the server does not answer or the queue is
/// full, which gives the same code as "already there" and another text.
pub(super) async fn enqueue(client: &Client, names: &Names, request: &BindRequest) -> Result<Enqueued> {
    let subject = names.bind(&request.vehicle);
    let answer = client.request(subject, request.to_json().into()).await.map_err(|e| {
        let hint = "is the server there, has its disk room, was `setup` run?";
        Error::unavailable(format!("the bind queue does not answer: {hint}")).caused_by(e)
    })?;
    judge(&answer.payload)
}

fn judge(payload: &[u8]) -> Result<Enqueued> {
    let answer: Answer = serde_json::from_slice(payload)
        .map_err(|e| Error::internal("the bind queue gave no publish ack").caused_by(e))?;
    match answer.error {
        None => Ok(Enqueued::Yes),
        Some(e) if e.err_code == 10_077 && e.description.contains("maximum messages per subject") => {
            Ok(Enqueued::Already)
        }
        Some(e) => {
            let hint = if e.err_code == 10_077 || e.err_code == 10_023 || e.err_code == 10_047 {
                "; look at the limits of its stream, and at the room and the limits of the server"
            } else {
                ""
            };
            let (description, code) = (e.description, e.err_code);
            Err(Error::unavailable(format!("the bind queue refuses: {description} ({code}){hint}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_waits_for_a_minute_at_most() {
        let pauses = [i64::MIN, 0, 1, 2, 6, 7, i64::MAX].map(|delivered| pause_after(delivered).as_secs());
        assert_eq!(pauses, [1, 1, 1, 2, 32, 60, 60]);
    }

    #[test]
    fn a_full_queue_is_not_taken_for_a_bound_vehicle() {
        assert_eq!(judge(br#"{"stream":"BINDINGS_0","seq":3}"#).unwrap(), Enqueued::Yes);
        let already = br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages per subject exceeded"}}"#;
        assert_eq!(judge(already).unwrap(), Enqueued::Already);
        let full = br#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}"#;
        assert!(judge(full).is_err());
        assert!(judge(b"{").is_err());
    }
}
