//! Who a client is, by the certificate it has shown.

use rustls::pki_types::CertificateDer;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::{Certificate, name::Name};

use crate::pem;

/// What applications are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Whom it is for, as RFC 4514 writes names.
    pub subject: String,
    /// Who made it, in the same way.
    pub issuer: String,
    /// Its number, hexadecimal, upper case.
    pub serial: String,
    /// The certificate itself and what the client sent with it, PEM each.
    pub chain: Vec<String>,
}

impl ClientCertificate {
    /// Describes the chain a client has shown, its own certificate first. What cannot be understood of a certificate
    /// that was checked is left empty.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let own = chain.first()?;
        let parsed = Certificate::from_der(own).ok();
        let parsed = parsed.as_ref().map(Certificate::tbs_certificate);
        Some(Self {
            subject: parsed.map(|one| text(one.subject())).unwrap_or_default(),
            issuer: parsed.map(|one| text(one.issuer())).unwrap_or_default(),
            serial: parsed
                .map(|one| hexadecimal(one.serial_number().as_bytes()))
                .unwrap_or_default(),
            chain: chain.iter().map(pem::of_certificate).collect(),
        })
    }
}

/// The last part first, as RFC 4514 wants it.
fn text(name: &Name) -> String {
    name.to_string()
}

/// As OpenSSL writes serial numbers: without the zero that only says that the number is not negative.
fn hexadecimal(number: &[u8]) -> String {
    use std::fmt::Write as _;
    let number = match number {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    let mut text = String::with_capacity(2 * number.len());
    for byte in number {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

/// The names of hosts a certificate is for, in lower case; those of a subject without alternatives, too.
pub(crate) fn hosts(certificate: &Certificate) -> Vec<String> {
    use x509_cert::ext::pkix::SubjectAltName;
    use x509_cert::ext::pkix::name::GeneralName;
    let tbs = certificate.tbs_certificate();
    let names = tbs.get_extension::<SubjectAltName>().ok().flatten();
    let names = names.map(|(_, names)| names.0).unwrap_or_default();
    let hosts: Vec<String> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DnsName(host) => Some(host.as_str().to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    if !hosts.is_empty() {
        return hosts;
    }
    let common = tbs.subject().common_name().ok().flatten();
    common
        .map(|name| name.value().to_ascii_lowercase())
        .into_iter()
        .collect()
}

/// The key a certificate is for, DER.
pub(crate) fn public_key(certificate: &Certificate) -> Vec<u8> {
    let key = certificate.tbs_certificate().subject_public_key_info();
    key.to_der().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn tells_subject_issuer_serial_and_pem() {
        let mut params = CertificateParams::new(vec!["a.example".into()]).expect("names");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Ox, Ltd");
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.serial_number = Some(vec![0x00, 0xab, 0x01].into());
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let described = ClientCertificate::of(std::slice::from_ref(certificate.der()));
        let described = described.expect("there is one");
        assert!(
            described.subject.contains("CN=alice"),
            "{}",
            described.subject
        );
        assert!(
            described.subject.contains(r"O=Ox\, Ltd"),
            "{}",
            described.subject
        );
        assert_eq!(described.issuer, described.subject);
        assert_eq!(described.serial, "AB01");
        assert_eq!(described.chain.len(), 1);
        let read = pem::certificates(&described.chain[0]).expect("PEM");
        assert_eq!(&read[0], certificate.der());
    }

    #[test]
    fn what_is_no_certificate_is_described_by_its_bytes_alone() {
        let odd = CertificateDer::from(vec![1, 2, 3]);
        let described = ClientCertificate::of(&[odd]).expect("there is one");
        assert_eq!((described.subject.as_str(), described.chain.len()), ("", 1));
        assert_eq!(ClientCertificate::of(&[]), None);
    }
}
