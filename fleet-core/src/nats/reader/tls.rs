//! TLS to the server: rustls with ring, always with verification of the certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Result};

/// Trusts the certificates of `ca_file` alone, or else those of the platform. Reads files.
pub(super) fn config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>> {
    let roots = match ca_file {
        Some(path) => from_file(path)?,
        None => from_platform(),
    };
    // The provider is named, because which one the process installed as its default is not ours.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::internal("the TLS provider lacks the protocol versions").caused_by(e))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn from_file(path: &Path) -> Result<RootCertStore> {
    let refused = |why: String| Error::configuration(format!("ca_file {}: {why}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| refused(e.to_string()))? {
        let certificate = certificate.map_err(|e| refused(e.to_string()))?;
        roots.add(certificate).map_err(|e| refused(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("there is no PEM certificate in it".to_owned()));
    }
    Ok(roots)
}

fn from_platform() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (taken, refused) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        tracing::warn!(refused, errors = ?found.errors, "the platform has no root certificates");
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_ca_file_is_named() {
        let said = |path| config(Some(Path::new(path))).err().unwrap().to_string();
        assert!(said("/does/not/exist").starts_with("ca_file /does/not/exist: "));
        assert_eq!(said("/dev/null"), "ca_file /dev/null: there is no PEM certificate in it");
    }
}
