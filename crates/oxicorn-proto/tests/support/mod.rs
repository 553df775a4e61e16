//! Plays a connection from a script of bytes and writes down what happened, as text.
#![allow(dead_code, reason = "each test binary uses another part of it")]

use std::fmt::Write as _;
use std::sync::Arc;

use oxicorn_proto::PeerFault;
use oxicorn_proto::http1::{
    BodyFraming, Connection, Event, HeaderMap, Limits, Next, RequestHead, ResponseHead, Rules,
    Strictness,
};

/// What happened: the same for the same bytes, however they came.
#[derive(Debug, Default)]
struct Transcript {
    text: String,
    body: Vec<u8>,
}

/// Feeds `pieces` one after the other, answers each request with an empty 200, and closes.
pub(crate) fn play<'p>(
    rules: &Arc<Rules>,
    trusted: bool,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> String {
    let mut connection = Connection::new(Arc::clone(rules));
    connection.set_forwarder_trusted(trusted);
    let mut transcript = Transcript::default();
    let mut buffer = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        match drain(&mut connection, &mut buffer, &mut transcript) {
            Ok(true) => {}
            Ok(false) => return transcript.text,
            Err(fault) => return transcript.fault(fault),
        }
    }
    match connection.handle_eof() {
        Ok(()) => transcript.line("closed"),
        Err(fault) => return transcript.fault(fault),
    }
    transcript.text
}

/// Polls until more is needed; `false` when the connection is over.
fn drain(
    connection: &mut Connection,
    buffer: &mut Vec<u8>,
    transcript: &mut Transcript,
) -> Result<bool, PeerFault> {
    loop {
        let polled = connection.poll_event(buffer)?;
        match polled.event {
            Event::Head => transcript.head(&connection.head(&buffer[..polled.consumed])),
            Event::Body(ref range) => transcript.body.extend_from_slice(&buffer[range.clone()]),
            Event::BodyEnd => transcript.end(connection, &buffer[..polled.consumed]),
            Event::Paused if !answer(connection) => {
                transcript.line("answered, closing");
                return Ok(false);
            }
            Event::Switched => return Ok(false),
            Event::NeedMore | Event::Paused => {}
        }
        buffer.drain(..polled.consumed);
        if polled.event == Event::NeedMore {
            return Ok(true);
        }
    }
}

/// Answers; does the connection stay?
fn answer(connection: &mut Connection) -> bool {
    let head = ResponseHead {
        status: 200,
        reason: b"OK",
        body_length: Some(0),
        ..ResponseHead::default()
    };
    let mut out = Vec::new();
    connection
        .encode_response_head(&head, [], &mut out)
        .expect("an ordinary response");
    let next = connection
        .finish_response([], &mut out)
        .expect("nothing is missing");
    if next == Next::KeepAlive {
        connection
            .start_next_exchange()
            .expect("both sides are through");
    }
    next == Next::KeepAlive
}

impl Transcript {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn pair(&mut self, word: &str, bytes: &[u8]) {
        let _ = writeln!(self.text, "{word} \"{}\"", bytes.escape_ascii());
    }

    fn fault(mut self, fault: PeerFault) -> String {
        // A body that is refused at its end was given out before, in pieces of any size.
        self.body.clear();
        let _ = writeln!(
            self.text,
            "fault {fault:?} {} {}",
            fault.status(),
            fault.reason()
        );
        self.text
    }

    fn head(&mut self, head: &RequestHead<'_>) {
        self.pair("head", head.request_line());
        self.pair("  method", head.method());
        self.pair("  path", head.path());
        if !head.query_string().is_empty() {
            self.pair("  query", head.query_string());
        }
        let _ = writeln!(self.text, "  version {:?}", head.version());
        match head.framing() {
            BodyFraming::None => {}
            framing => self.line(&format!("  framing {framing:?}")),
        }
        self.flags(head);
        for header in head.headers() {
            let _ = writeln!(
                self.text,
                "  header \"{}: {}\"",
                header.name.escape_ascii(),
                header.value.escape_ascii()
            );
        }
    }

    fn flags(&mut self, head: &RequestHead<'_>) {
        for (set, word) in [
            (head.keep_alive(), "  keep-alive"),
            (head.expect_continue(), "  expects 100"),
            (head.accepts_trailers(), "  accepts trailers"),
        ] {
            if set {
                self.line(word);
            }
        }
        if let Some(upgrade) = head.upgrade() {
            self.pair("  upgrade", upgrade);
        }
        if let Some(host) = head.host() {
            self.pair("  host", host);
        }
        if let Some(https) = head.absolute_is_https() {
            let _ = writeln!(self.text, "  absolute, https {https}");
        }
    }

    fn end(&mut self, connection: &Connection, bytes: &[u8]) {
        let body = std::mem::take(&mut self.body);
        if !body.is_empty() {
            self.pair("body", &body);
        }
        for trailer in connection.trailers(bytes) {
            let _ = writeln!(
                self.text,
                "trailer \"{}: {}\"",
                trailer.name.escape_ascii(),
                trailer.value.escape_ascii()
            );
        }
        self.line("end");
    }
}

/// The rules a `.rules` file asks for: one word or `name=value` a line.
pub(crate) fn rules_of(text: &str) -> (Arc<Rules>, bool) {
    let mut rules = Rules {
        limits: Limits::default(),
        strictness: Strictness::default(),
    };
    let mut trusted = false;
    for line in text.lines() {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let number = || value.parse::<usize>().expect("a number");
        let (limits, strictness) = (&mut rules.limits, &mut rules.strictness);
        match name {
            "trusted" => trusted = true,
            "refuse_underscores" => strictness.header_map = HeaderMap::Refuse,
            "keep_underscores" => strictness.header_map = HeaderMap::Dangerous,
            "permit_obsolete_folding" => strictness.permit_obsolete_folding = true,
            "strip_header_spaces" => strictness.strip_header_spaces = true,
            "permit_unconventional_http_method" => {
                strictness.permit_unconventional_http_method = true;
            }
            "permit_unconventional_http_version" => {
                strictness.permit_unconventional_http_version = true;
            }
            "permit_connect" => strictness.permit_connect = true,
            "casefold_http_method" => strictness.casefold_http_method = true,
            "forwarder_headers" => {
                strictness.forwarder_headers = value.split(',').map(Into::into).collect();
            }
            "request_line" => limits.request_line = number(),
            "fields" => limits.fields = number(),
            "field_size" => limits.field_size = number(),
            "head_size" => limits.head_size = number(),
            "chunk_line" => limits.chunk_line = number(),
            "chunk_extensions" => limits.chunk_extensions = number() as u64,
            "body" => limits.body = Some(number() as u64),
            _ => panic!("unknown rule {line:?}"),
        }
    }
    (Arc::new(rules), trusted)
}

/// A small generator of pseudo-random numbers (xorshift), seeded so that a failure can be replayed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound.max(1) as u64).expect("below a usize")
    }
}

/// `bytes` cut at random places.
pub(crate) fn cut<'b>(mut bytes: &'b [u8], random: &mut Random) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let widest = [1, 3, 16, bytes.len()][random.below(4)];
        let (piece, rest) = bytes.split_at(1 + random.below(widest.min(bytes.len())));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
