//! Which certificate a client is shown: by the host it asks for (server name indication, RFC 6066).

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::client::{hosts, public_key};
use crate::fault::Fault;
use crate::material::Certified;
use crate::{pem, provider};

/// The certificates by the hosts they are for.
#[derive(Debug)]
pub(crate) struct Identities {
    first: Arc<CertifiedKey>,
    /// Names and, with `*` as their first part, patterns.
    by_host: HashMap<String, Arc<CertifiedKey>>,
}

impl Identities {
    /// Of two that are for the same host the first is shown.
    pub(crate) fn new(all: &[Certified]) -> Result<Self, Fault> {
        let mut by_host = HashMap::new();
        let mut first = None;
        for one in all {
            let (key, names) = certified_key(one)?;
            for name in names {
                by_host.entry(name).or_insert_with(|| Arc::clone(&key));
            }
            first.get_or_insert(key);
        }
        let first = first.ok_or(Fault::CertificateMissing)?;
        Ok(Self { first, by_host })
    }

    fn of_host(&self, host: &str) -> Option<&Arc<CertifiedKey>> {
        let host = host.to_ascii_lowercase();
        if let Some(found) = self.by_host.get(&host) {
            return Some(found);
        }
        let (_, domain) = host.split_once('.')?;
        self.by_host.get(&format!("*.{domain}"))
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|host| self.of_host(host));
        Some(Arc::clone(named.unwrap_or(&self.first)))
    }
}

/// Certificate and key together, and the hosts they are for.
fn certified_key(one: &Certified) -> Result<(Arc<CertifiedKey>, Vec<String>), Fault> {
    let file = &one.certificate_file;
    let chain = pem::certificates(&one.chain).map_err(|error| Fault::certificate(file, &error))?;
    let own = chain
        .first()
        .ok_or_else(|| Fault::NoCertificate(file.clone()))?;
    let parsed = parse(file, own)?;
    let key = pem::key(&one.key).ok_or_else(|| Fault::NoKey(one.key_file.clone()))?;
    let key = provider::signing_key(&key)
        .map_err(|error| Fault::Key(one.key_file.clone(), error.to_string()))?;
    let is_its_key = key
        .public_key()
        .is_none_or(|public| public.as_ref() == public_key(&parsed));
    if !is_its_key {
        return Err(Fault::KeyOfAnother {
            certificate: file.clone(),
            key: one.key_file.clone(),
        });
    }
    let mut certified = CertifiedKey::new(chain, key);
    if !one.ocsp.is_empty() {
        certified.ocsp = Some(one.ocsp.clone());
    }
    Ok((Arc::new(certified), hosts(&parsed)))
}

/// Every certificate of a chain must be one; of the first more is wanted.
pub(crate) fn parse(file: &Path, der: &[u8]) -> Result<Certificate, Fault> {
    Certificate::from_der(der).map_err(|error| Fault::certificate(file, &error))
}
