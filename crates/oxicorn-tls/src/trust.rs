//! Whom the server believes where it is a client itself.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;

use crate::fault::Fault;
use crate::{pem, provider};

/// The authorities in a PEM file; without one, those of the system: of `SSL_CERT_FILE` and `SSL_CERT_DIR`, else where
/// the distribution has them.
pub fn believed(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let Some(file) = file else {
        // What cannot be read of them is no reason to do without the others.
        let found = rustls_native_certs::load_native_certs().certs;
        if found.is_empty() {
            return Err(Fault::NobodyBelieved);
        }
        return Ok(found);
    };
    let bytes = fs::read(file).map_err(|error| Fault::Unreadable(file.into(), error))?;
    let found = pem::certificates(&String::from_utf8_lossy(&bytes))
        .map_err(|reason| Fault::certificate(file, &reason))?;
    if found.is_empty() {
        return Err(Fault::NoCertificate(file.into()));
    }
    Ok(found)
}

/// What the connections of a client are encrypted with: the same as those of the server.
pub fn cryptography() -> Arc<CryptoProvider> {
    provider::provider(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("ca.pem");
        let fault = || believed(Some(&file)).expect_err("a fault").to_string();
        assert!(fault().contains("ca.pem cannot be read: No such file"));
        fs::write(&file, "no certificate").expect("written");
        assert!(fault().ends_with("ca.pem has no certificate in PEM"));
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        fs::write(&file, own.cert.pem()).expect("written");
        let found = believed(Some(&file)).expect("an authority");
        assert_eq!(found, [own.cert.der().clone()]);
    }
}
