//! `oxicorn_tls::read` for Python, which knows what the settings and the hook come to.

use std::path::PathBuf;

use oxicorn_tls::{CertificateFiles, Files, Version, read};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::config_error;

/// Certificate, key, OCSP response, passphrase.
type Named = (PathBuf, Option<PathBuf>, Option<PathBuf>, Option<String>);

/// The cipher suites that are offered with TLS 1.2, by OpenSSL's names.
#[pyfunction]
pub(crate) fn offered_ciphers() -> Vec<&'static str> {
    oxicorn_tls::offered()
}

/// Reads and checks certificates and keys; gives them in the form that is handed to the gateway, and what there is to
/// say. Raises `ConfigError`.
#[pyfunction]
#[expect(
    clippy::too_many_arguments,
    reason = "one call of one function, with names on Python's side"
)]
pub(crate) fn read_certificates<'py>(
    py: Python<'py>,
    certificates: Vec<Named>,
    client_mode: u32,
    ca_certs: Option<PathBuf>,
    more_authorities: String,
    crlfile: Option<PathBuf>,
    more_revoked: String,
    least_version: &str,
    most_version: &str,
    ciphers: Option<Vec<String>>,
    protocols: Vec<String>,
) -> PyResult<(Bound<'py, PyBytes>, Vec<String>)> {
    let certificates = certificates.into_iter();
    let files = Files {
        certificates: certificates
            .map(|(certificate, key, ocsp, passphrase)| CertificateFiles {
                certificate,
                key,
                ocsp,
                passphrase,
            })
            .collect(),
        client_mode,
        authorities: ca_certs,
        more_authorities,
        revoked: crlfile,
        more_revoked,
        least_version: version(least_version),
        most_version: version(most_version),
        ciphers,
        protocols,
    };
    let (material, notes) = read(&files).map_err(|fault| config_error(py, &fault))?;
    Ok((PyBytes::new(py, &material.encode()), notes))
}

fn version(text: &str) -> Version {
    if text == "1.3" {
        Version::Tls13
    } else {
        Version::Tls12
    }
}
