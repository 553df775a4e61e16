//! TLS as little as it can be: records are decrypted where they were read, and an answer is encrypted into memory that is
//! kept. By the same library as the servers that are measured, by its interface without buffers.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

/// Room for an answer, and for what records add to it: one in each 16 KiB.
const ROOM: usize = 4 * 1024;
const RECORD: usize = 16 * 1024;
/// What a record adds to its content, rounded up.
const OVERHEAD: usize = 64;
/// What the protocol itself says at once, at most: its part of a handshake.
const SAID: usize = 16 * 1024;

/// Why a connection cannot go on.
pub(crate) struct Broken;

impl From<rustls::Error> for Broken {
    fn from(_: rustls::Error) -> Self {
        Self
    }
}

/// Reads certificate and key, in PEM.
///
/// # Errors
///
/// Of a file that cannot be read, or is not what it should be.
pub(crate) fn configure(certificate: &str, key: &str) -> std::io::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(std::io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(std::io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(std::io::Error::other)?;
    Ok(Arc::new(config))
}

/// One client's session.
pub(crate) struct Session {
    state: UnbufferedServerConnection,
    /// Ciphertext of a record that is not complete.
    incoming: Vec<u8>,
    sealed: Vec<u8>,
}

impl Session {
    pub(crate) fn new(config: &Arc<ServerConfig>) -> Result<Self, Broken> {
        Ok(Self {
            state: UnbufferedServerConnection::new(Arc::clone(config))?,
            incoming: Vec::new(),
            sealed: Vec::new(),
        })
    }

    /// Decrypts what was received into `plain`; what the protocol has to say to that comes back.
    pub(crate) fn open(
        &mut self,
        received: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<Vec<u8>, Broken> {
        if self.incoming.is_empty() {
            let (used, said) = step(&mut self.state, received, plain)?;
            self.incoming.extend_from_slice(&received[used..]);
            return Ok(said);
        }
        self.incoming.extend_from_slice(received);
        let (used, said) = step(&mut self.state, &mut self.incoming, plain)?;
        self.incoming.drain(..used);
        Ok(said)
    }

    /// Encrypts an answer.
    pub(crate) fn seal(&mut self, data: &[u8]) -> Result<&[u8], Broken> {
        let needed = ROOM + data.len() + data.len() / RECORD * OVERHEAD;
        if self.sealed.len() < needed {
            self.sealed.resize(needed, 0);
        }
        match self.state.process_tls_records(&mut self.incoming).state? {
            ConnectionState::WriteTraffic(mut traffic) => {
                let length = traffic
                    .encrypt(data, &mut self.sealed)
                    .map_err(|_| Broken)?;
                Ok(&self.sealed[..length])
            }
            _ => Err(Broken),
        }
    }
}

/// Goes through what has come, as far as it is complete: how much that was, and what there is to say.
fn step(
    session: &mut UnbufferedServerConnection,
    bytes: &mut [u8],
    plain: &mut Vec<u8>,
) -> Result<(usize, Vec<u8>), Broken> {
    let (mut used, mut said) = (0, Vec::new());
    loop {
        let UnbufferedStatus { mut discard, state } =
            session.process_tls_records(&mut bytes[used..]);
        let goes_on = match state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
                true
            }
            ConnectionState::EncodeTlsData(mut data) => {
                let start = said.len();
                said.resize(start + SAID, 0);
                let length = data.encode(&mut said[start..]).map_err(|_| Broken)?;
                said.truncate(start + length);
                true
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                true
            }
            ConnectionState::PeerClosed | ConnectionState::Closed => return Err(Broken),
            _ => false,
        };
        used += discard;
        if !goes_on {
            return Ok((used, said));
        }
    }
}
