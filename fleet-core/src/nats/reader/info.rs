//! What a server says of itself.

use serde::Deserialize;

use crate::error::{Error, Result};

/// The fields of `INFO` that matter to us; others come and go with the versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ServerInfo {
    pub server_name: String,
    pub version: String,
    pub max_payload: i64,
    pub tls_required: bool,
    pub tls_available: bool,
    pub nonce: String,
    pub connect_urls: Vec<String>,
    /// The server is about to end ("lame duck mode").
    pub ldm: bool,
}

impl ServerInfo {
    pub(super) fn parse(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json).map_err(|e| {
            Error::unavailable("what the NATS server says of itself is not understood").caused_by(e)
        })
    }

    /// The first two numbers of its version, zeros where it says none.
    pub(super) fn version(&self) -> (u32, u32) {
        let mut numbers = self.version.split('.').map(|number| number.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// Bytes of a message at most, as far as the server says.
    pub(super) fn max_payload(&self) -> usize {
        match usize::try_from(self.max_payload) {
            Ok(bytes) if bytes > 0 => bytes,
            _ => 1 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_missing_fields_are_passed_over() {
        let info = ServerInfo::parse(br#"{"new":[{}],"max_payload":4096,"ldm":true,"connect_urls":["a:1"]}"#)
            .unwrap();
        assert_eq!(
            (info.max_payload(), info.ldm, &*info.connect_urls),
            (4096, true, &["a:1".to_owned()][..])
        );
        assert_eq!(ServerInfo::parse(b"{}").unwrap().max_payload(), 1 << 20);
        assert_eq!(ServerInfo::parse(br#"{"max_payload":-1}"#).unwrap().max_payload(), 1 << 20);
        for (said, version) in [("2.15.1", (2, 15)), ("2.16.0-dev", (2, 16)), ("v3", (0, 0)), ("", (0, 0))] {
            let info = ServerInfo { version: said.to_owned(), ..ServerInfo::default() };
            assert_eq!(info.version(), version, "{said}");
        }
        assert!(ServerInfo::parse(b"").is_err() && ServerInfo::parse(b"{").is_err());
    }
}
