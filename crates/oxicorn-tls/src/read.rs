//! From files to a [`Material`].

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::pem::{LineEnding, PemLabel as _};
use pkcs8::der::{Decode as _, Document};

use crate::fault::Fault;
use crate::identity::parse;
use crate::material::{Authorities, Certified, ClientCertificates, Material, Version};
use crate::offer::{Offer, chain, not_offered};
use crate::pem;

/// Certificates that end sooner are told of.
const ENDS_SOON: u64 = 7 * 24 * 60 * 60;

/// What the settings name.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificates, the one for clients that name no host first.
    pub certificates: Vec<CertificateFiles>,
    /// `cert_reqs`: 0, 1 or 2.
    pub client_mode: u32,
    /// `ca_certs`
    pub authorities: Option<PathBuf>,
    /// More authorities, PEM.
    pub more_authorities: String,
    /// `crlfile`
    pub revoked: Option<PathBuf>,
    /// More lists of revoked certificates, PEM.
    pub more_revoked: String,
    /// The lowest version.
    pub least_version: Version,
    /// The highest version.
    pub most_version: Version,
    /// Names of cipher suites.
    pub ciphers: Option<Vec<String>>,
    /// ALPN names.
    pub protocols: Vec<String>,
}

/// One certificate's files.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate and those that lead to its authority, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM; none: it is in the same file.
    pub key: Option<PathBuf>,
    /// An OCSP response, DER.
    pub ocsp: Option<PathBuf>,
    /// Decrypts the key, if it is encrypted.
    pub passphrase: Option<String>,
}

/// Reads and checks everything. Gives what is worth a word although it works, too.
pub fn read(files: &Files) -> Result<(Material, Vec<String>), Fault> {
    let certificates = files
        .certificates
        .iter()
        .map(certified)
        .collect::<Result<Vec<_>, _>>()?;
    let material = Material {
        certificates,
        clients: clients(files)?,
        least_version: files.least_version,
        most_version: files.most_version,
        ciphers: files.ciphers.clone(),
        protocols: files.protocols.clone(),
    };
    Offer::new(&material, None)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let notes = notes(&material, now.map_or(0, |now| now.as_secs()))?;
    Ok((material, notes))
}

fn certified(files: &CertificateFiles) -> Result<Certified, Fault> {
    let key_file = files.key.as_ref().unwrap_or(&files.certificate);
    let chain = text(&files.certificate)?;
    if pem::block(&chain, "CERTIFICATE").is_none() {
        return Err(Fault::NoCertificate(files.certificate.clone()));
    }
    Ok(Certified {
        certificate_file: files.certificate.clone(),
        key_file: key_file.clone(),
        chain,
        key: key(key_file, files.passphrase.as_deref())?,
        ocsp: files
            .ocsp
            .as_deref()
            .map(ocsp)
            .transpose()?
            .unwrap_or_default(),
    })
}

fn text(file: &Path) -> Result<String, Fault> {
    let bytes = fs::read(file).map_err(|error| Fault::Unreadable(file.into(), error))?;
    // What is not text around the blocks of PEM may be in any encoding.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The key of a file, PEM, decrypted.
fn key(file: &Path, passphrase: Option<&str>) -> Result<String, Fault> {
    let text = text(file)?;
    if let Some(block) = pem::block(&text, EncryptedPrivateKeyInfoRef::PEM_LABEL) {
        let passphrase = passphrase.ok_or_else(|| Fault::PassphraseMissing(file.into()))?;
        return decrypted(file, block, passphrase);
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(Fault::OldEncryption(file.into()));
    }
    let kinds = ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"];
    let block = kinds.iter().find_map(|label| pem::block(&text, label));
    let block = block.ok_or_else(|| Fault::NoKey(file.into()))?;
    Ok(block.to_owned())
}

fn decrypted(file: &Path, block: &str, passphrase: &str) -> Result<String, Fault> {
    let odd = |reason: &dyn std::fmt::Display| Fault::Key(file.into(), reason.to_string());
    let (_, document) = Document::from_pem(block).map_err(|error| odd(&error))?;
    let encrypted =
        EncryptedPrivateKeyInfoRef::from_der(document.as_bytes()).map_err(|error| odd(&error))?;
    let supported = encrypted.encryption_algorithm.pbes2().is_some();
    let key = encrypted.decrypt(passphrase).map_err(|error| {
        if supported && is_of_the_passphrase(&error) {
            Fault::PassphraseWrong(file.into())
        } else {
            Fault::Encryption(file.into(), error.to_string())
        }
    })?;
    let text = key
        .to_pem("PRIVATE KEY", LineEnding::LF)
        .map_err(|error| odd(&error))?;
    Ok((*text).clone())
}

/// A wrong passphrase shows as padding that is none, or, by chance, as a key that is none.
fn is_of_the_passphrase(error: &pkcs8::Error) -> bool {
    matches!(
        error,
        pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::DecryptFailed)
            | pkcs8::Error::Asn1(_)
    )
}

/// OCSP responses begin as every sequence of ASN.1 does, with a status of success in it (RFC 6960 section 4.2.1).
fn ocsp(file: &Path) -> Result<Vec<u8>, Fault> {
    let bytes = fs::read(file).map_err(|error| Fault::Unreadable(file.into(), error))?;
    let header = bytes
        .windows(3)
        .take(6)
        .any(|three| three == [0x0a, 0x01, 0x00]);
    if bytes.first() != Some(&0x30) || !header {
        return Err(Fault::Ocsp(file.into()));
    }
    Ok(bytes)
}

fn clients(files: &Files) -> Result<ClientCertificates, Fault> {
    if files.client_mode == 0 {
        return Ok(ClientCertificates::NotAsked);
    }
    let mut certificates = files.more_authorities.clone();
    let mut file = PathBuf::from("ssl_context");
    match &files.authorities {
        Some(path) => {
            certificates.push_str(&text(path)?);
            file.clone_from(path);
        }
        None if certificates.is_empty() => return Err(Fault::AuthoritiesMissing),
        None => {}
    }
    let mut revoked = files.more_revoked.clone();
    let mut revoked_file = PathBuf::from("ssl_context");
    if let Some(path) = &files.revoked {
        revoked.push_str(&text(path)?);
        revoked_file.clone_from(path);
        if pem::block(&revoked, "X509 CRL").is_none() {
            let reason = "there is no list of revoked certificates in PEM in it";
            return Err(Fault::RevocationLists(revoked_file, reason.into()));
        }
    }
    let them = Authorities {
        file,
        certificates,
        revoked,
        revoked_file,
    };
    Ok(match files.client_mode {
        1 => ClientCertificates::Optional(them),
        _ => ClientCertificates::Required(them),
    })
}

/// What works and is probably not meant; `now` in seconds of Unix time.
fn notes(material: &Material, now: u64) -> Result<Vec<String>, Fault> {
    let mut notes = Vec::new();
    for one in &material.certificates {
        let file = one.certificate_file.display();
        let Some(own) = chain(&one.chain).into_iter().next() else {
            continue;
        };
        let parsed = parse(&one.certificate_file, &own)?;
        let validity = parsed.tbs_certificate().validity();
        let end = validity.not_after.to_unix_duration().as_secs();
        if now > end {
            notes.push(format!(
                "The certificate in {file} has expired ({}): clients will refuse it",
                validity.not_after
            ));
        } else if now + ENDS_SOON > end {
            notes.push(format!(
                "The certificate in {file} expires soon ({})",
                validity.not_after
            ));
        }
        if now < validity.not_before.to_unix_duration().as_secs() {
            notes.push(format!(
                "The certificate in {file} is not valid yet ({}): clients will refuse it",
                validity.not_before
            ));
        }
    }
    let missing = not_offered(material);
    if !missing.is_empty() {
        notes.push(format!("ciphers: {} not offered", is_or_are(&missing)));
    }
    Ok(notes)
}

fn is_or_are(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}
