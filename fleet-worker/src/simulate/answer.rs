//! What JetStream answers to a message that is to be stored.

use fleet_core::nats::reader::Headers;

/// Whether the message is stored, or why not.
///
/// # Errors
/// What the server says.
pub(super) fn answer(headers: Option<Headers<'_>>, payload: &[u8]) -> Result<(), String> {
    if let Some(status) = headers.and_then(Headers::status) {
        return Err(match status.code {
            503 => "no stream found for the subject".to_owned(),
            code => format!("status {code} {}", String::from_utf8_lossy(status.description)),
        });
    }
    // As every server writes it: an error comes first, where there is one.
    if payload.starts_with(br#"{"stream":"#) { Ok(()) } else { other(payload) }
}

#[cold]
fn other(payload: &[u8]) -> Result<(), String> {
    let unread =
        || format!("no ack of JetStream: {:?}", String::from_utf8_lossy(&payload[..payload.len().min(80)]));
    let json: serde_json::Value = serde_json::from_slice(payload).map_err(|_| unread())?;
    match json.get("error") {
        Some(error) => {
            Err(error.get("description").and_then(|d| d.as_str()).map_or_else(unread, str::to_owned))
        }
        None if json.get("stream").is_some() => Ok(()),
        None => Err(unread()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ack_is_taken_for_one() {
        let of = |payload: &str| answer(None, payload.as_bytes());
        assert_eq!(of(r#"{"stream":"TELEMETRY_0", "seq":7}"#), Ok(()));
        assert_eq!(of(r#"{"seq":7,"stream":"T","duplicate":true}"#), Ok(()));
        let full = r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"T","seq":0}"#;
        assert_eq!(of(full), Err("maximum bytes exceeded".to_owned()));
        for none in ["", "+OK", "{}", "[1]", r#"{"error":{}}"#, &"x".repeat(9_000)] {
            let error = of(none).unwrap_err();
            assert!(error.contains("no ack") && error.len() < 200, "{error}");
        }
        let headers = Headers::new(b"NATS/1.0 503\r\n\r\n");
        assert!(answer(Some(headers), b"").unwrap_err().contains("no stream found"));
    }
}
