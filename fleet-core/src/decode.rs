//! From a message's bytes to samples.
//!
//! [`AnyDecoder`] tells the formats apart by a payload's beginning: [`frame`] is what sensors send,
//! [`json`] is for people and tests, [`senml`] for devices that speak RFC 8428 already. [`check`] then
//! takes out what no sensor can have measured.

mod check;
mod clock;
pub mod frame;
pub mod json;
pub mod senml;

pub use check::{Refused, check};
pub use frame::FrameDecoder;
pub use json::JsonDecoder;
pub use senml::cbor::SenmlCborDecoder;
pub use senml::json::SenmlJsonDecoder;

use crate::message::Refusal;
use crate::sample::Samples;
use crate::schema::Signal;

/// A detail becomes a header and a log line; payloads can put anything into it.
const MAX_DETAIL: usize = 240;

/// Why a payload gave no samples; any bytes give samples or one of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct DecodeError {
    /// The short reason.
    pub refusal: Refusal,
    /// In words, with the field and the value.
    pub detail: String,
}

impl DecodeError {
    /// An error whose detail is one line of at most 240 characters, cut where it is longer.
    pub fn new(refusal: Refusal, detail: impl std::fmt::Display) -> Self {
        let mut detail = detail.to_string();
        if let Some((end, _)) = detail.char_indices().nth(MAX_DETAIL) {
            detail.truncate(end);
            detail.push('…');
        }
        if detail.contains(char::is_control) {
            detail = detail.replace(char::is_control, " ");
        }
        Self { refusal, detail }
    }

    fn malformed(detail: impl std::fmt::Display) -> Self {
        Self::new(Refusal::Malformed, detail)
    }

    fn empty() -> Self {
        Self::new(Refusal::Empty, "the payload is empty")
    }
}

/// Decodes one message's payload. Stateless, total, and allocates nothing by a length that the
/// payload claims.
pub trait Decoder: Send + Sync + std::fmt::Debug {
    /// Appends the payload's samples of `signal` to `out`, which was reset to its column count.
    /// Ranges and times are not checked here.
    ///
    /// # Errors
    /// [`DecodeError`]; `out` may then hold some of the samples and must not be used.
    fn decode(&self, signal: &Signal, payload: &[u8], out: &mut Samples) -> Result<(), DecodeError>;

    /// The sender's per-signal counter, where the format has one. It tells what was lost on the way.
    fn sequence(&self, payload: &[u8]) -> Option<u16>;
}

/// Every format of this crate, the pipeline's default. The first byte tells them apart; SenML in JSON
/// is an array whose first object has a field of SenML and no `ts`.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnyDecoder;

impl Decoder for AnyDecoder {
    fn decode(&self, signal: &Signal, payload: &[u8], out: &mut Samples) -> Result<(), DecodeError> {
        match payload.first() {
            None => Err(DecodeError::empty()),
            Some(&frame::MARKER) => FrameDecoder.decode(signal, payload, out),
            Some(0x80..=0x9f) => SenmlCborDecoder.decode(signal, payload, out),
            Some(_) if senml::json::is_pack(payload) => SenmlJsonDecoder.decode(signal, payload, out),
            Some(b'{' | b'[' | b' ' | b'\t' | b'\r' | b'\n') => JsonDecoder.decode(signal, payload, out),
            Some(other) => Err(DecodeError::malformed(format_args!(
                "first byte 0x{other:02x} begins neither a frame (0x{:02x}) nor JSON nor a CBOR array",
                frame::MARKER
            ))),
        }
    }

    fn sequence(&self, payload: &[u8]) -> Option<u16> {
        FrameDecoder.sequence(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_short_and_of_one_line() {
        let error = DecodeError::malformed("ä\n".repeat(500));
        assert_eq!(error.detail.chars().count(), MAX_DETAIL + 1);
        assert!(!error.detail.contains('\n'));
        assert!(error.detail.ends_with('…'));
        assert_eq!(DecodeError::malformed("as it is").detail, "as it is");
    }
}
