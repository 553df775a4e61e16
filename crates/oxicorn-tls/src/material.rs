//! Everything a server needs to speak TLS, in one value that can be handed to another process.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;

/// See the module's head. Certificates and keys are PEM, so that the file it may be looked at in is readable.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    /// What the server shows; the first to clients that name no host, or one that none is for.
    pub certificates: Vec<Certified>,
    /// What it wants to see of clients.
    pub clients: ClientCertificates,
    /// The lowest version.
    pub least_version: Version,
    /// The highest version.
    pub most_version: Version,
    /// Cipher suites by OpenSSL's names or those of RFC 8446, in the order of preference; none: all that there are, and
    /// the client's preference counts.
    pub ciphers: Option<Vec<String>>,
    /// Protocols by their ALPN names (RFC 7301), the preferred ones first.
    pub protocols: Vec<String>,
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certified {
    /// Where the certificate was read.
    pub certificate_file: PathBuf,
    /// Where the key was read.
    pub key_file: PathBuf,
    /// The certificate and those that lead to its authority, PEM.
    pub chain: String,
    /// The key, PEM, not encrypted.
    pub key: String,
    /// An OCSP response, DER; empty: none.
    pub ocsp: Vec<u8>,
}

/// What is asked of clients (`cert_reqs`, `ca_certs`, `crlfile`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientCertificates {
    /// Nothing.
    #[default]
    NotAsked,
    /// Who has a certificate shows it, and it must be good.
    Optional(Authorities),
    /// Everybody shows a good one.
    Required(Authorities),
}

/// Whom certificates of clients must be from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorities {
    /// Where they were read.
    pub file: PathBuf,
    /// Their certificates, PEM.
    pub certificates: String,
    /// Lists of what they have revoked, PEM; empty: nobody looks.
    pub revoked: String,
    /// Where the lists were read.
    pub revoked_file: PathBuf,
}

/// A version of TLS. Older ones are not offered: RFC 8996 forbids them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl Material {
    /// Whether clients are asked for certificates.
    pub fn asks_clients(&self) -> bool {
        self.clients != ClientCertificates::NotAsked
    }

    /// The bytes to hand over.
    pub fn encode(&self) -> Vec<u8> {
        // Texts and numbers only: nothing that can fail to be written.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What was handed over.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        serde_json::from_slice(bytes).map_err(Fault::Undecodable)
    }
}

impl std::fmt::Debug for Material {
    /// No key gets into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files = self.certificates.iter().map(|one| &one.certificate_file);
        f.debug_list().entries(files).finish()
    }
}
