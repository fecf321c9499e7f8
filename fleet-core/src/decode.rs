//! From a message's bytes to samples.

use crate::message::Refusal;
use crate::sample::Samples;
use crate::schema::Signal;

/// Why a payload gave no samples; any bytes give samples or one of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct DecodeError {
    /// The short reason.
    pub refusal: Refusal,
    /// In words, with the field and the value.
    pub detail: String,
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
