//! The cryptography behind everything here.

use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ProducesTickets;
use rustls::sign::SigningKey;

/// What is used, with these cipher suites in this order; none: all, as rustls prefers them.
pub(crate) fn provider(suites: Option<Vec<SupportedCipherSuite>>) -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    if let Some(suites) = suites {
        provider.cipher_suites = suites;
    }
    Arc::new(provider)
}

/// Every cipher suite there is, the preferred ones first.
pub(crate) fn suites() -> &'static [SupportedCipherSuite] {
    ring::ALL_CIPHER_SUITES
}

/// Encrypts session tickets with keys of its own, which are changed every six hours and kept for another six.
pub(crate) fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    ring::Ticketer::new()
}

/// A key to sign with.
pub(crate) fn signing_key(key: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
    ring::sign::any_supported_type(key)
}
