//! One error type for the edges. Its kind says what the caller can do; the detail is in the text.

use std::fmt;

/// What the caller of a failed operation can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A server is unreachable, restarting or overloaded: try again later. Whether the operation
    /// took effect is unknown; every operation of this crate may be repeated.
    Unavailable,
    /// The configuration, the credentials or the schema must be changed by a person first.
    Configuration,
    /// The input can't be used; trying again can't help, other input may be fine.
    Data,
    /// A server refuses it for a reason that is not known here, such as an error that a trigger raises: trying
    /// again may help, and so may trying the parts by themselves. Look at the text.
    Refused,
    /// Another holder has claimed the vehicle since: drop it, write nothing more for it.
    Superseded,
    /// A bug here or in a server's answer.
    Internal,
}

impl ErrorKind {
    /// Whether the same operation may succeed later without a change of anything here.
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Unavailable | Self::Refused)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "unavailable",
            Self::Configuration => "configuration",
            Self::Data => "data",
            Self::Refused => "refused",
            Self::Superseded => "superseded",
            Self::Internal => "internal",
        })
    }
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error of a source, binder, sink or state store.
///
/// The text names what was tried and with what; it never holds a password or a token.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Source>,
}

/// The result of an edge's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a lower-case `message` without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// [`ErrorKind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// [`ErrorKind::Configuration`].
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// [`ErrorKind::Data`].
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error with its cause, which `Display` appends.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether its cause is one of that type.
    #[cfg(feature = "nats")]
    pub(crate) fn is_caused_by<E: std::error::Error + 'static>(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.is::<E>())
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.message.clone();
        let mut cause = self.source.as_deref().map(|e| e as &dyn std::error::Error);
        while let Some(error) = cause {
            let said = error.to_string();
            // Many errors repeat their cause in their own text.
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            cause = error.source();
        }
        f.write_str(&text)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_once() {
        let refused = || std::io::Error::other("connection refused");
        let repeating = Error::unavailable("error connecting").caused_by(refused());
        let error = Error::unavailable("no database").caused_by(repeating);
        assert_eq!(error.to_string(), "no database: error connecting: connection refused");
        let repeated = Error::unavailable("no database: connection refused").caused_by(refused());
        assert_eq!(repeated.to_string(), "no database: connection refused");
    }
}
