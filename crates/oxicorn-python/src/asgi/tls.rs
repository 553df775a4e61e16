//! The extension `tls` of a scope (ASGI TLS extension 0.2): what a handshake has settled, and who the client is.

use oxicorn_link::wire::{self, RequestView};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::latin1;

/// The certificates of a client begin with this; further ones have a number behind it.
const CERTIFICATE: &[u8] = b"SSL_CLIENT_CERT";
/// Whom a client's certificate is for.
const SUBJECT: &[u8] = b"SSL_CLIENT_S_DN";

/// What is known of the client's TLS; none: it speaks none with us.
pub(super) fn extension<'py>(
    py: Python<'py>,
    view: &RequestView<'_>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let of = |wanted: &[u8]| view.variables.iter().find(|(name, _)| *name == wanted);
    let Some((_, &[version_high, version_low, suite_high, suite_low])) = of(wire::TLS) else {
        return Ok(None);
    };
    let subject = of(SUBJECT).map(|(_, subject)| latin1::to_string(py, subject));
    let chain = view.variables.iter();
    let chain = chain.filter(|(name, _)| name.starts_with(CERTIFICATE));
    let chain = chain.map(|(_, certificate)| latin1::to_string(py, certificate));
    let tls = PyDict::new(py);
    // It is the client's to know.
    tls.set_item(intern!(py, "server_cert"), py.None())?;
    tls.set_item(
        intern!(py, "client_cert_chain"),
        PyList::new(py, chain.collect::<Vec<_>>())?,
    )?;
    tls.set_item(intern!(py, "client_cert_name"), subject)?;
    // Who shows a bad one is not served.
    tls.set_item(intern!(py, "client_cert_error"), py.None())?;
    let number = |high, low| u16::from_be_bytes([high, low]);
    tls.set_item(
        intern!(py, "tls_version"),
        number(version_high, version_low),
    )?;
    tls.set_item(intern!(py, "cipher_suite"), number(suite_high, suite_low))?;
    Ok(Some(tls))
}
