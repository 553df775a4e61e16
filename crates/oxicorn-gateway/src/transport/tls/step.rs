//! One look of a session at the records that have come.
//!
//! Decides nothing but the order in which rustls' states are gone through. It knows neither socket nor connection, so
//! that a handshake's steps can be made by another thread ([`super::threads`]).

use std::io;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus,
};

/// Where the bytes go that come out of records.
#[derive(Debug)]
pub(super) struct Sinks<'b> {
    /// Decrypted bytes, as long as there is room in it.
    pub(super) buffer: &'b mut Vec<u8>,
    /// Those for which there was none.
    pub(super) plain: &'b mut Vec<u8>,
    /// Ciphertext for the peer.
    pub(super) outgoing: &'b mut Vec<u8>,
}

/// What a step through the records gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Ciphertext that is done with.
    pub(super) consumed: usize,
    /// Plain bytes for the buffer.
    pub(super) delivered: usize,
    /// The handshake is done.
    pub(super) is_settled: bool,
    /// The peer said that nothing more comes.
    pub(super) is_closed: bool,
}

/// Lets the protocol see what has come. An error is what the log says; what the peer is told of it is in the sinks.
pub(super) fn step(
    session: &mut UnbufferedServerConnection,
    bytes: &mut [u8],
    sinks: &mut Sinks<'_>,
) -> Result<Step, String> {
    let mut step = Step::default();
    loop {
        let UnbufferedStatus { mut discard, state } =
            session.process_tls_records(&mut bytes[step.consumed..]);
        let mut is_over = false;
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(|error| error.to_string())?;
                    discard += record.discard;
                    step.delivered += sinks.take(record.payload);
                }
                // Nothing is left to look at. What the protocol has to say to it goes before what is sent next.
                is_over = step.consumed + discard == bytes.len() && !session.is_handshaking();
                step.is_settled |= is_over;
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(&mut data, sinks.outgoing).map_err(|error| error.to_string())?;
            }
            // It goes out in its order, whenever the socket takes it.
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => step.is_closed = true,
            Ok(ConnectionState::WriteTraffic(_)) => {
                is_over = true;
                step.is_settled = true;
            }
            Ok(_) => is_over = true,
            Err(error) => {
                let rest = (step.consumed + discard).min(bytes.len());
                encode_alert(session, &mut bytes[rest..], sinks.outgoing);
                return Err(oxicorn_tls::reason(&error));
            }
        }
        step.consumed += discard;
        if is_over {
            return Ok(step);
        }
    }
}

impl Sinks<'_> {
    /// Says how many of the bytes found room.
    fn take(&mut self, payload: &[u8]) -> usize {
        let room = self.buffer.capacity() - self.buffer.len();
        // What came before and found no room comes first.
        let room = if self.plain.is_empty() { room } else { 0 };
        let (now, later) = payload.split_at(payload.len().min(room));
        self.buffer.extend_from_slice(now);
        self.plain.extend_from_slice(later);
        now.len()
    }
}

/// What the protocol has to say of a failure; `rest` is what came and was not looked at.
fn encode_alert(session: &mut UnbufferedServerConnection, rest: &mut [u8], out: &mut Vec<u8>) {
    if let Ok(ConnectionState::EncodeTlsData(mut data)) = session.process_tls_records(rest).state {
        // Without it the peer learns less.
        let _ = encode(&mut data, out);
    }
}

/// Appends what the protocol has to say.
fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    let missing = match data.encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            required_size
        }
        Err(error) => return Err(io::Error::other(error)),
    };
    out.resize(start + missing, 0);
    data.encode(&mut out[start..]).map_err(io::Error::other)?;
    Ok(())
}
