//! Puts a request into a worker's ring.
//!
//! It is encoded when a worker has been chosen, from the head in the connection's buffer; if the
//! worker gives it back it is encoded again for the next one. A body that is a file goes as a
//! descriptor before the message, and so does a request that is too long for the ring.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use oxicorn_link::wire::{self, BodyPlace, RequestEncoder, flags};
use oxicorn_link::{DescriptorError, Placement, RingFull, StreamId};
use oxicorn_proto::cgi;
use oxicorn_proto::message::{BodyFraming, Version};

use crate::buffer::body::Body;
use crate::buffer::spool::Spool;
use crate::connection::Connection;
use crate::exchange::{Exchange, Request};
use crate::gateway::Scratch;
use crate::transport::tls::About;
use crate::workers::pool::WorkerRecord;

/// Why a request was not placed.
pub(crate) enum PlaceError {
    /// The ring or the socket for descriptors is full.
    NoRoomYet,
    /// A temporary file could not be written.
    Disk(io::Error),
}

impl From<DescriptorError> for PlaceError {
    fn from(_: DescriptorError) -> Self {
        // A worker that is gone is noticed elsewhere; until then its ring is as good as full.
        Self::NoRoomYet
    }
}

/// Encodes a connection's request, sends what it needs beside the message, then the message.
pub(crate) fn place_request(
    record: &mut WorkerRecord,
    stream: StreamId,
    connection: &Connection,
    queued: Duration,
    scratch: &mut Scratch,
) -> Result<Placement, PlaceError> {
    let Some(Exchange { request, .. }) = connection.exchange.as_deref() else {
        return Err(PlaceError::NoRoomYet);
    };
    let spool = &connection.resolved.spool;
    encode_request(connection, request, queued, scratch);
    let message = &scratch.message[..];
    let placed = match request.body.file() {
        None => record
            .link
            .place_request_parts(stream, 0, message, inline_body(request)),
        Some(file) => {
            if message.len() > record.link.max_request_payload() {
                return place_spilled(record, stream, message, request, spool);
            }
            record.link.send_descriptor(stream, file.as_fd())?;
            record
                .link
                .place_request_parts(stream, flags::HAS_DESCRIPTOR, message, &[])
        }
    };
    match placed {
        Ok(placement) => Ok(placement),
        Err(RingFull::NoRoomYet) => Err(PlaceError::NoRoomYet),
        Err(RingFull::MessageTooLong) => place_spilled(record, stream, message, request, spool),
    }
}

/// A request too long for the ring goes as a file, whatever made it long.
fn place_spilled(
    record: &mut WorkerRecord,
    stream: StreamId,
    message: &[u8],
    request: &Request,
    spool: &Spool,
) -> Result<Placement, PlaceError> {
    let mut spilled = Body::default();
    for part in [message, inline_body(request)] {
        spilled.push(part, 0, spool).map_err(PlaceError::Disk)?;
    }
    spilled.complete().map_err(PlaceError::Disk)?;
    let Some(file) = spilled.file() else {
        return Err(PlaceError::NoRoomYet);
    };
    record.link.send_descriptor(stream, file.as_fd())?;
    let mut bits = flags::SPILLED;
    if let Some(body) = request.body.file() {
        record.link.send_descriptor(stream, body.as_fd())?;
        bits |= flags::HAS_DESCRIPTOR;
    }
    record
        .link
        .place_request_parts(stream, bits, &[], &[])
        .map_err(|_| PlaceError::NoRoomYet)
}

/// The body that goes with the request: of one that is still coming, nothing.
fn inline_body(request: &Request) -> &[u8] {
    match request.upload {
        Some(_) => &[],
        None => request.body.bytes(),
    }
}

/// Writes the message for the link, but for an inline body, into `scratch.message`.
fn encode_request(
    connection: &Connection,
    request: &Request,
    queued: Duration,
    scratch: &mut Scratch,
) {
    let Scratch { path, message, .. } = scratch;
    let head = connection.session.head(connection.input.head());
    let settings = &connection.resolved.settings;
    let body = &request.body;
    message.clear();
    let path = connection.session.path(&head, path);
    let place = match body.file() {
        _ if request.upload.is_some() => BodyPlace::Streamed {
            len: match head.framing() {
                BodyFraming::Length(len) => Some(len),
                _ => None,
            },
        },
        Some(_) => BodyPlace::Descriptor { len: body.len() },
        None if body.len() > 0 => BodyPlace::Inline,
        None => BodyPlace::None,
    };
    let proxied = connection.proxied.as_deref();
    let about = wire::RequestHead {
        version: match head.version() {
            Version::Http10 => wire::Version::Http10,
            Version::Http11 => wire::Version::Http11,
            Version::Http2 => wire::Version::Http2,
        },
        scheme: match (connection.websocket.is_some(), request.https) {
            (false, false) => wire::Scheme::Http,
            (false, true) => wire::Scheme::Https,
            (true, false) => wire::Scheme::Ws,
            (true, true) => wire::Scheme::Wss,
        },
        method: head.method(),
        request_target: head.request_target(),
        path,
        query_string: head.query_string(),
        client: connection.client().wire(),
        server: connection.server.wire(),
        proxy: proxied.map(|proxied| proxied.wire()),
        body: place,
        deadline_ms: clamp(settings.timeouts.request.as_millis()),
        queued_us: clamp(queued.as_micros()),
    };
    let mut encoder = RequestEncoder::begin(message, &about);
    match request.trace.as_deref() {
        None => {
            for header in head.headers() {
                encoder.header(header.name, header.value);
            }
        }
        Some(trace) => {
            for (name, value) in trace.told_headers(&head) {
                encoder.header(name, value);
            }
        }
    }
    if let Some(time) = request.trace.as_deref().and_then(|trace| trace.proxy_time) {
        encoder.variable(wire::PROXY_TIME, &clamp(time.as_micros()).to_ne_bytes());
    }
    if !request.trailers.is_empty() {
        encoder.variable(wire::TRAILERS, &request.trailers);
    }
    if let Some(relayed) = connection.session.relayed() {
        describe_relayed(relayed, &mut encoder);
    }
    if let Some(about) = connection.transport.about() {
        describe_tls(about, &mut encoder);
    }
    encoder.finish_without_body(inline_body(request).len());
}

/// What a web server in front says beside the head.
fn describe_relayed(relayed: &cgi::Request, encoder: &mut RequestEncoder<'_>) {
    if !relayed.script_name.is_empty() {
        encoder.variable(b"SCRIPT_NAME", &relayed.script_name);
    }
    for (name, value) in &relayed.variables {
        encoder.variable(name, value);
    }
}

/// The numbers of version and cipher suite, and who the client is, by the names that `mod_ssl` gave them.
fn describe_tls(about: &About, encoder: &mut RequestEncoder<'_>) {
    let [high, low] = about.version.to_be_bytes();
    let [suite_high, suite_low] = about.suite.to_be_bytes();
    encoder.variable(wire::TLS, &[high, low, suite_high, suite_low]);
    let Some(client) = &about.client else {
        if about.asked {
            encoder.variable(b"SSL_CLIENT_VERIFY", b"NONE");
        }
        return;
    };
    encoder.variable(b"SSL_CLIENT_VERIFY", b"SUCCESS");
    encoder.variable(b"SSL_CLIENT_S_DN", client.subject.as_bytes());
    encoder.variable(b"SSL_CLIENT_I_DN", client.issuer.as_bytes());
    encoder.variable(b"SSL_CLIENT_M_SERIAL", client.serial.as_bytes());
    for (place, certificate) in client.chain.iter().enumerate() {
        match place.checked_sub(1) {
            None => encoder.variable(b"SSL_CLIENT_CERT", certificate.as_bytes()),
            Some(place) => encoder.variable(
                format!("SSL_CLIENT_CERT_CHAIN_{place}").as_bytes(),
                certificate.as_bytes(),
            ),
        }
    }
}

fn clamp(value: u128) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
