//! The configuration for connections, made of a [`Material`].
//!
//! Decides how sessions are resumed: by tickets alone (RFC 5077, RFC 8446 section 2.2), which cost the server no
//! memory. Their keys live on when certificates change, so that a change makes nobody begin anew; but not when what is
//! asked of clients changes, because who resumes a session shows no certificate again.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{
    ClientCertVerifierBuilder, NoServerSessionStorage, ProducesTickets, VerifierBuilderError,
    WebPkiClientVerifier,
};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use crate::ciphers::choose;
use crate::fault::Fault;
use crate::identity::Identities;
use crate::material::{Authorities, ClientCertificates, Material, Version};
use crate::{pem, provider};

/// The keys of session tickets, and whom they were given to.
#[derive(Debug, Clone)]
pub struct Tickets {
    ticketer: Arc<dyn ProducesTickets>,
    clients: ClientCertificates,
}

/// What is offered to clients that connect.
#[derive(Debug, Clone)]
pub struct Offer {
    config: Arc<ServerConfig>,
    tickets: Tickets,
}

impl Offer {
    /// What `material` offers. `before`: the tickets of what it takes the place of.
    pub fn new(material: &Material, before: Option<&Tickets>) -> Result<Self, Fault> {
        let provider = provider::provider(suites(material)?);
        let verifier = match &material.clients {
            ClientCertificates::NotAsked => WebPkiClientVerifier::no_client_auth(),
            ClientCertificates::Optional(them) => {
                let builder = verifier(them, &provider)?.allow_unauthenticated();
                built(builder.build(), them)?
            }
            ClientCertificates::Required(them) => built(verifier(them, &provider)?.build(), them)?,
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions(material))
            .map_err(Fault::Configuration)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Identities::new(&material.certificates)?));
        let tickets = Tickets::after(before, &material.clients)?;
        config.ticketer = Arc::clone(&tickets.ticketer);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ignore_client_order = material.ciphers.is_some();
        config.alpn_protocols = material
            .protocols
            .iter()
            .map(|name| name.clone().into_bytes())
            .collect();
        Ok(Self {
            config: Arc::new(config),
            tickets,
        })
    }

    /// For a connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// For what takes its place.
    pub fn tickets(&self) -> &Tickets {
        &self.tickets
    }
}

impl Tickets {
    fn after(before: Option<&Self>, clients: &ClientCertificates) -> Result<Self, Fault> {
        if let Some(before) = before
            && before.clients == *clients
        {
            return Ok(before.clone());
        }
        Ok(Self {
            ticketer: provider::ticketer().map_err(Fault::Configuration)?,
            clients: clients.clone(),
        })
    }
}

fn suites(material: &Material) -> Result<Option<Vec<rustls::SupportedCipherSuite>>, Fault> {
    let Some(names) = &material.ciphers else {
        return Ok(None);
    };
    let (chosen, _) = choose(names);
    if chosen.is_empty() {
        return Err(Fault::Ciphers(names.join(":")));
    }
    Ok(Some(chosen))
}

fn versions(material: &Material) -> Vec<&'static SupportedProtocolVersion> {
    let all = [
        (Version::Tls13, &version::TLS13),
        (Version::Tls12, &version::TLS12),
    ];
    let offered =
        |version: &Version| (material.least_version..=material.most_version).contains(version);
    all.iter()
        .filter(|(version, _)| offered(version))
        .map(|(_, offered)| *offered)
        .collect()
}

fn roots(them: &Authorities) -> Result<RootCertStore, Fault> {
    let fault = |reason: String| Fault::Authorities(them.file.clone(), reason);
    let certificates = pem::certificates(&them.certificates).map_err(fault)?;
    if certificates.is_empty() {
        return Err(fault("there is no certificate in PEM in it".into()));
    }
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(certificates);
    if roots.is_empty() {
        return Err(fault(format!(
            "none of its {unusable} certificates can be read"
        )));
    }
    Ok(roots)
}

/// What checks certificates of clients. Where there are lists of revoked ones, each certificate up to the authority
/// must be looked up in a list that has not expired, as OpenSSL's users of `X509_V_FLAG_CRL_CHECK_ALL` have it.
fn verifier(
    them: &Authorities,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientCertVerifierBuilder, Fault> {
    let roots = Arc::new(roots(them)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    if them.revoked.is_empty() {
        return Ok(builder);
    }
    let fault = |reason: String| Fault::RevocationLists(them.revoked_file.clone(), reason);
    let lists = pem::revocation_lists(&them.revoked).map_err(fault)?;
    if lists.is_empty() {
        return Err(fault(
            "there is no list of revoked certificates in PEM in it".into(),
        ));
    }
    Ok(builder.with_crls(lists).enforce_revocation_expiration())
}

fn built<T>(verifier: Result<T, VerifierBuilderError>, them: &Authorities) -> Result<T, Fault> {
    verifier.map_err(|error| match error {
        VerifierBuilderError::InvalidCrl(error) => {
            Fault::RevocationLists(them.revoked_file.clone(), format!("{error:?}"))
        }
        other => Fault::Authorities(them.file.clone(), other.to_string()),
    })
}

/// What of a list of ciphers is not offered.
pub(crate) fn not_offered(material: &Material) -> Vec<&str> {
    material
        .ciphers
        .as_deref()
        .map(|names| choose(names).1)
        .unwrap_or_default()
}

/// The certificates in PEM that a chain has.
pub(crate) fn chain(text: &str) -> Vec<CertificateDer<'static>> {
    pem::certificates(text).unwrap_or_default()
}
