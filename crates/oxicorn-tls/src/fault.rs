//! Why TLS cannot be offered as the settings ask for it.

use std::path::{Path, PathBuf};
use std::{fmt, io};

/// Each names the setting or the file at fault, and what to do where that is not plain.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// There is a key, but no certificate.
    CertificateMissing,
    /// The file has no certificate in PEM.
    NoCertificate(PathBuf),
    /// A certificate cannot be understood.
    Certificate(PathBuf, String),
    /// The file has no private key in PEM.
    NoKey(PathBuf),
    /// The key cannot be understood, or is of a kind that cannot be used.
    Key(PathBuf, String),
    /// The key is encrypted and nobody said how to decrypt it.
    PassphraseMissing(PathBuf),
    /// The passphrase is not that of the key.
    PassphraseWrong(PathBuf),
    /// The key is encrypted in the way of OpenSSL's old format.
    OldEncryption(PathBuf),
    /// The key is encrypted in a way that cannot be decrypted here.
    Encryption(PathBuf, String),
    /// The key belongs to another certificate.
    KeyOfAnother {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The file is no OCSP response in DER.
    Ocsp(PathBuf),
    /// Certificates of clients are asked for, and there is nothing to check them against.
    AuthoritiesMissing,
    /// The authorities cannot be used.
    Authorities(PathBuf, String),
    /// The lists of revoked certificates cannot be used.
    RevocationLists(PathBuf, String),
    /// The system has no authorities that could be believed.
    NobodyBelieved,
    /// None of the cipher suites that were asked for is offered.
    Ciphers(String),
    /// What was handed over between processes is not what was written.
    Undecodable(serde_json::Error),
    /// The parts do not go together.
    Configuration(rustls::Error),
}

impl Fault {
    pub(crate) fn certificate(file: &Path, reason: &dyn fmt::Display) -> Self {
        Self::Certificate(file.into(), reason.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(file, error) => {
                write!(f, "{} cannot be read: {error}", file.display())
            }
            Self::CertificateMissing => f.write_str("keyfile is set, certfile is needed too"),
            Self::NoCertificate(file) => {
                write!(f, "{} has no certificate in PEM", file.display())
            }
            Self::Certificate(file, reason) => {
                write!(
                    f,
                    "the certificate in {} cannot be used: {reason}",
                    file.display()
                )
            }
            Self::NoKey(file) => write!(f, "{} has no private key in PEM", file.display()),
            Self::Key(file, reason) => {
                write!(
                    f,
                    "the private key in {} cannot be used: {reason}",
                    file.display()
                )
            }
            Self::PassphraseMissing(file) => write!(
                f,
                "the private key in {} is encrypted, its passphrase belongs into keyfile_password",
                file.display()
            ),
            Self::PassphraseWrong(file) => write!(
                f,
                "keyfile_password is not the passphrase of the private key in {}",
                file.display()
            ),
            Self::OldEncryption(file) => write!(
                f,
                "the private key in {0} is encrypted in OpenSSL's old format, convert it with: openssl pkcs8 -topk8 -in {0}",
                file.display()
            ),
            Self::Encryption(file, reason) => write!(
                f,
                "the private key in {} cannot be decrypted: {reason}",
                file.display()
            ),
            Self::KeyOfAnother { certificate, key } => write!(
                f,
                "the private key in {} does not belong to the certificate in {}",
                key.display(),
                certificate.display()
            ),
            Self::Ocsp(file) => {
                write!(f, "{} is no OCSP response in DER", file.display())
            }
            Self::AuthoritiesMissing => {
                f.write_str("cert_reqs asks for certificates of clients, ca_certs is needed too")
            }
            Self::Authorities(file, reason) => {
                write!(f, "ca_certs: {} cannot be used: {reason}", file.display())
            }
            Self::RevocationLists(file, reason) => {
                write!(f, "crlfile: {} cannot be used: {reason}", file.display())
            }
            Self::NobodyBelieved => f.write_str(
                "the system has no certificates of authorities (Debian: ca-certificates; or set SSL_CERT_FILE)",
            ),
            Self::Ciphers(asked) => write!(
                f,
                "ciphers: none of {asked} is offered; with TLS 1.2 are {}",
                crate::ciphers::offered().join(":")
            ),
            Self::Undecodable(error) => write!(f, "certificates were not understood: {error}"),
            Self::Configuration(error) => write!(f, "certificates and settings: {error}"),
        }
    }
}

impl std::error::Error for Fault {}
