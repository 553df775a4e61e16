//! FastCGI, the responder's side: requests and responses in records.
//!
//! ```text
//!   version (1)  type  request id (2)  content length (2)  padding length  0     then content, padding
//!
//!   from the web server:  BEGIN_REQUEST  PARAMS* PARAMS(empty)  STDIN* STDIN(empty)
//!   from us:              STDOUT* STDOUT(empty) END_REQUEST
//! ```
//!
//! Decides where records end, which request they belong to and what the protocol answers by itself; the
//! variables of `PARAMS` are read by [`cgi`](crate::cgi). One request at a time: who asks is told so
//! (`FCGI_MPXS_CONNS` is 0), and a second one that begins before the first is complete is refused by the
//! protocol's own answer. A request's end is its empty `STDIN`, whatever `CONTENT_LENGTH` says: some web
//! servers send none, some an empty one, some 0 without a body. Where there is a length, both must agree.
//! (Specification: FastCGI 1.0, sections 3 to 5.)

use std::ops::Range;

use crate::fault::PeerFault;
use crate::other_protocol;

/// Bytes before a record's content.
const HEADER: usize = 8;
const VERSION: u8 = 1;

/// Most bytes of content in a record of ours: what a length of 16 bits can say, in whole eights.
pub const CONTENT_MAX: usize = 65_528;

const BEGIN_REQUEST: u8 = 1;
const ABORT_REQUEST: u8 = 2;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const GET_VALUES: u8 = 9;
const GET_VALUES_RESULT: u8 = 10;
const UNKNOWN_TYPE: u8 = 11;

/// Most answers of the protocol's own for one request and what comes before it: whoever reads none of them must not
/// fill the memory.
const REPLIES_MAX: usize = 100;

const RESPONDER: u16 = 1;
const KEEP_CONNECTION: u8 = 1;

const REQUEST_COMPLETE: u8 = 0;
const CANNOT_MULTIPLEX: u8 = 1;

/// What a web server may ask for, and what it is told.
const VALUES: [(&[u8], &[u8]); 3] = [
    (b"FCGI_MAX_CONNS", b"65535"),
    (b"FCGI_MAX_REQS", b"65535"),
    (b"FCGI_MPXS_CONNS", b"0"),
];

/// Name and value of a variable.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// What the bytes meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Read more.
    NeedMore,
    /// All variables are there: [`Decoder::variables`].
    Variables,
    /// A piece of the body: these bytes of the input.
    Body(Range<usize>),
    /// The body is complete.
    BodyEnd,
}

/// Reads the records of one connection.
#[derive(Debug)]
pub struct Decoder {
    /// Most bytes of variables.
    limit: usize,
    stage: Stage,
    id: u16,
    keep: bool,
    variables: Vec<u8>,
    /// What is left of the record under way: content, padding. Only `STDIN` and records of no
    /// interest are taken before they are complete.
    content: usize,
    padding: usize,
    /// The content under way is the body's.
    is_body: bool,
    /// Answers of the protocol's own that are to be sent.
    replies: Vec<u8>,
    /// How many there were since the last request.
    replied: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Variables,
    Body,
    /// The body's end was reported.
    Done,
}

impl Decoder {
    /// A new connection; `limit`: bytes of the variables of a request.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            stage: Stage::Idle,
            id: 0,
            keep: false,
            variables: Vec::new(),
            content: 0,
            padding: 0,
            is_body: false,
            replies: Vec::new(),
            replied: 0,
        }
    }

    /// The request under way, or the last one.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// The web server wants the connection kept after this request.
    pub fn keeps_connection(&self) -> bool {
        self.keep
    }

    /// Nothing of a request has come since the last one.
    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Idle && self.content == 0 && self.padding == 0
    }

    /// The variables, once they were reported; a fault if their lengths do not fit.
    pub fn variables(&self) -> Result<Vec<Pair<'_>>, PeerFault> {
        pairs(&self.variables)
    }

    /// Takes what is to be sent before anything else.
    pub fn take_replies(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.replies)
    }

    /// The response is out and the request has been read: the next may come.
    pub fn start_next(&mut self) {
        self.stage = Stage::Idle;
        self.variables.clear();
        self.replied = 0;
    }

    /// Reads on. So many bytes are used up, whatever the event.
    pub fn poll(&mut self, input: &[u8]) -> Result<(usize, Event), PeerFault> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            if self.content > 0 {
                let count = rest.len().min(self.content);
                if count == 0 {
                    return Ok((used, Event::NeedMore));
                }
                self.content -= count;
                let piece = used..used + count;
                used += count;
                if self.is_body {
                    return Ok((used, Event::Body(piece)));
                }
                continue;
            }
            if self.padding > 0 {
                let count = rest.len().min(self.padding);
                if count == 0 {
                    return Ok((used, Event::NeedMore));
                }
                self.padding -= count;
                used += count;
                continue;
            }
            if self.stage == Stage::Done {
                return Ok((used, Event::NeedMore));
            }
            let Some(header) = self.read_header(rest)? else {
                return Ok((used, Event::NeedMore));
            };
            match self.take_record(&header, &rest[HEADER..])? {
                Taken::Incomplete => return Ok((used, Event::NeedMore)),
                Taken::Header => used += HEADER,
                Taken::All => used += HEADER + header.content,
            }
            if let Some(event) = self.reached(&header) {
                return Ok((used, event));
            }
        }
    }

    /// The header of the next record. What cannot begin the first one tells what its sender speaks.
    fn read_header(&self, rest: &[u8]) -> Result<Option<Header>, PeerFault> {
        Header::read(rest).map_err(|fault| match rest {
            [first, ..] if self.stage == Stage::Idle => {
                other_protocol::named(*first).unwrap_or(fault)
            }
            _ => fault,
        })
    }

    fn take_record(&mut self, header: &Header, content: &[u8]) -> Result<Taken, PeerFault> {
        let own = header.id == self.id && self.stage != Stage::Idle;
        match header.kind {
            STDIN if own && self.stage == Stage::Body => return Ok(self.pass(header, true)),
            BEGIN_REQUEST | PARAMS | GET_VALUES => {}
            ABORT_REQUEST if own => return Err(PeerFault::AbortedRequest),
            kind if header.id == 0 => {
                let unknown = [kind, 0, 0, 0, 0, 0, 0, 0];
                write_record(UNKNOWN_TYPE, 0, &unknown, self.replies()?);
                return Ok(self.pass(header, false));
            }
            // Data of a filter's, or of a request that was refused.
            _ => return Ok(self.pass(header, false)),
        }
        if header.kind == PARAMS && !(own && self.stage == Stage::Variables) {
            return Ok(self.pass(header, false));
        }
        // These are read when they are complete. None is longer than a record can be.
        let Some(content) = content.get(..header.content) else {
            return Ok(Taken::Incomplete);
        };
        self.padding = header.padding;
        match header.kind {
            BEGIN_REQUEST => self.begin(header.id, content)?,
            GET_VALUES => self.answer_values(content)?,
            _ if self.variables.len() + content.len() > self.limit => {
                return Err(PeerFault::HeadTooLong);
            }
            _ => self.variables.extend_from_slice(content),
        }
        Ok(Taken::All)
    }

    /// The content is taken as it comes.
    fn pass(&mut self, header: &Header, is_body: bool) -> Taken {
        self.content = header.content;
        self.padding = header.padding;
        self.is_body = is_body;
        Taken::Header
    }

    /// What a record that was taken has brought about.
    fn reached(&mut self, header: &Header) -> Option<Event> {
        if header.id != self.id || header.content > 0 {
            return None;
        }
        match (header.kind, self.stage) {
            (PARAMS, Stage::Variables) => {
                self.stage = Stage::Body;
                Some(Event::Variables)
            }
            (STDIN, Stage::Body) => {
                self.stage = Stage::Done;
                Some(Event::BodyEnd)
            }
            _ => None,
        }
    }

    fn begin(&mut self, id: u16, content: &[u8]) -> Result<(), PeerFault> {
        let &[high, low, flags, ..] = content else {
            return Err(PeerFault::InvalidRecord);
        };
        if self.stage != Stage::Idle {
            if id == self.id {
                return Err(PeerFault::InvalidRecord);
            }
            write_end(id, CANNOT_MULTIPLEX, self.replies()?);
            return Ok(());
        }
        self.id = id;
        self.keep = flags & KEEP_CONNECTION != 0;
        if u16::from_be_bytes([high, low]) != RESPONDER {
            return Err(PeerFault::UnsupportedRole);
        }
        self.stage = Stage::Variables;
        Ok(())
    }

    fn answer_values(&mut self, content: &[u8]) -> Result<(), PeerFault> {
        let mut answer = Vec::new();
        for (name, _) in pairs(content)? {
            if let Some((name, value)) = VALUES.iter().find(|(known, _)| *known == name) {
                for text in [name, value] {
                    answer.push(u8::try_from(text.len()).unwrap_or(0));
                }
                answer.extend_from_slice(name);
                answer.extend_from_slice(value);
            }
        }
        write_record(GET_VALUES_RESULT, 0, &answer, self.replies()?);
        Ok(())
    }

    /// Where one more answer of the protocol's own goes.
    fn replies(&mut self) -> Result<&mut Vec<u8>, PeerFault> {
        self.replied += 1;
        if self.replied > REPLIES_MAX {
            return Err(PeerFault::InvalidRecord);
        }
        Ok(&mut self.replies)
    }
}

/// How much of a record was taken.
enum Taken {
    Incomplete,
    Header,
    All,
}

struct Header {
    kind: u8,
    id: u16,
    content: usize,
    padding: usize,
}

impl Header {
    fn read(input: &[u8]) -> Result<Option<Self>, PeerFault> {
        // A browser's request is told from a record by its first byte.
        if input.first().is_some_and(|&version| version != VERSION) {
            return Err(PeerFault::InvalidRecord);
        }
        let Some(&[_, kind, high, low, content_high, content_low, padding, _]) =
            input.first_chunk::<HEADER>()
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            kind,
            id: u16::from_be_bytes([high, low]),
            content: usize::from(u16::from_be_bytes([content_high, content_low])),
            padding: usize::from(padding),
        }))
    }
}

/// Names and values, each with its length before it: of one byte, or of four with the first bit set.
fn pairs(mut bytes: &[u8]) -> Result<Vec<Pair<'_>>, PeerFault> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (name, rest) = length(bytes).ok_or(PeerFault::InvalidRecord)?;
        let (value, rest) = length(rest).ok_or(PeerFault::InvalidRecord)?;
        let (name, rest) = rest
            .split_at_checked(name)
            .ok_or(PeerFault::InvalidRecord)?;
        let (value, rest) = rest
            .split_at_checked(value)
            .ok_or(PeerFault::InvalidRecord)?;
        found.push((name, value));
        bytes = rest;
    }
    Ok(found)
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        return Some((usize::from(first), rest));
    }
    let (more, rest) = rest.split_first_chunk::<3>()?;
    let length = u32::from_be_bytes([first & 0x7f, more[0], more[1], more[2]]);
    Some((usize::try_from(length).ok()?, rest))
}

fn write_header(kind: u8, id: u16, content: usize, out: &mut Vec<u8>) {
    let [high, low] = id.to_be_bytes();
    let [content_high, content_low] = u16::try_from(content).unwrap_or(u16::MAX).to_be_bytes();
    out.extend_from_slice(&[VERSION, kind, high, low, content_high, content_low, 0, 0]);
}

fn write_record(kind: u8, id: u16, content: &[u8], out: &mut Vec<u8>) {
    write_header(kind, id, content.len(), out);
    out.extend_from_slice(content);
}

fn write_end(id: u16, status: u8, out: &mut Vec<u8>) {
    write_record(END_REQUEST, id, &[0, 0, 0, 0, status, 0, 0, 0], out);
}

/// Appends what stands before `len` bytes of a response, which are not none and at most [`CONTENT_MAX`].
pub fn write_output_header(id: u16, len: usize, out: &mut Vec<u8>) {
    debug_assert!((1..=CONTENT_MAX).contains(&len), "{len} bytes in a record");
    write_header(STDOUT, id, len, out);
}

/// Puts what was appended to `out` from `start` on into records.
pub fn frame_output(id: u16, start: usize, out: &mut Vec<u8>) {
    let content = out.split_off(start);
    for piece in content.chunks(CONTENT_MAX) {
        write_output_header(id, piece.len(), out);
        out.extend_from_slice(piece);
    }
}

/// Appends the end of a response.
pub fn write_output_end(id: u16, out: &mut Vec<u8>) {
    write_header(STDOUT, id, 0, out);
    write_end(id, REQUEST_COMPLETE, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
        let mut out = Vec::new();
        write_record(kind, id, content, &mut out);
        out[6] = padding;
        out.extend(std::iter::repeat_n(0xee, padding.into()));
        out
    }

    fn begin(id: u16, role: u8, flags: u8) -> Vec<u8> {
        record(BEGIN_REQUEST, id, &[0, role, flags, 0, 0, 0, 0, 0], 0)
    }

    fn pair(name: &str, value: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for text in [name, value] {
            match u8::try_from(text.len()) {
                Ok(len) if len < 0x80 => out.push(len),
                _ => {
                    out.extend((u32::try_from(text.len()).expect("short") | 1 << 31).to_be_bytes());
                }
            }
        }
        [&out[..], name.as_bytes(), value.as_bytes()].concat()
    }

    /// A request as nginx sends it: padded, its variables in two records.
    fn request(id: u16) -> Vec<u8> {
        let variables = [
            pair("REQUEST_METHOD", "POST"),
            pair("LONG", &"x".repeat(200)),
        ]
        .concat();
        let (first, second) = variables.split_at(7);
        [
            begin(id, 1, 1),
            record(PARAMS, id, first, 1),
            record(PARAMS, id, second, 3),
            record(PARAMS, id, b"", 0),
            record(STDIN, id, b"bo", 6),
            record(STDIN, id, b"dy", 0),
            record(STDIN, id, b"", 0),
        ]
        .concat()
    }

    /// What is made of the pieces: variables, body, whether it is complete, what is answered.
    fn read(pieces: &[&[u8]]) -> Result<(usize, Vec<u8>, bool, Vec<u8>), PeerFault> {
        let mut decoder = Decoder::new(1000);
        let (mut held, mut body, mut variables, mut over) = (Vec::new(), Vec::new(), 0, false);
        for piece in pieces {
            held.extend_from_slice(piece);
            loop {
                let (used, event) = decoder.poll(&held)?;
                match &event {
                    Event::Variables => variables = decoder.variables()?.len(),
                    Event::Body(range) => body.extend_from_slice(&held[range.clone()]),
                    Event::BodyEnd => over = true,
                    Event::NeedMore => {}
                }
                held.drain(..used);
                if event == Event::NeedMore {
                    break;
                }
            }
        }
        Ok((variables, body, over, decoder.take_replies()))
    }

    #[test]
    fn a_request_is_read_at_any_cut() {
        let whole = request(1);
        let expected = Ok((2, b"body".to_vec(), true, Vec::new()));
        assert_eq!(read(&[&whole]), expected);
        for at in 0..whole.len() {
            let (first, second) = whole.split_at(at);
            assert_eq!(read(&[first, second]), expected, "{at}");
        }
        let bytes: Vec<_> = whole.chunks(1).collect();
        assert_eq!(read(&bytes), expected);
    }

    #[test]
    fn a_second_request_is_refused_by_the_protocol() {
        let first = request(1);
        let (head, tail) = first.split_at(8 + 8);
        let second = [
            begin(3, 1, 1),
            record(PARAMS, 3, &pair("A", "b"), 0),
            record(STDIN, 3, b"x", 0),
        ]
        .concat();
        let (variables, body, over, replies) = read(&[head, &second, tail]).expect("good");
        assert_eq!((variables, &body[..], over), (2, &b"body"[..], true));
        assert_eq!(
            replies,
            record(END_REQUEST, 3, &[0, 0, 0, 0, CANNOT_MULTIPLEX, 0, 0, 0], 0)
        );
    }

    #[test]
    fn who_asks_is_told() {
        let asked = [pair("FCGI_MPXS_CONNS", ""), pair("OTHER", "")].concat();
        let (.., replies) = read(&[&record(GET_VALUES, 0, &asked, 0)]).expect("good");
        assert_eq!(
            replies,
            record(GET_VALUES_RESULT, 0, &pair("FCGI_MPXS_CONNS", "0"), 0)
        );
        let (.., replies) = read(&[&record(77, 0, b"??", 2)]).expect("good");
        assert_eq!(
            replies,
            record(UNKNOWN_TYPE, 0, &[77, 0, 0, 0, 0, 0, 0, 0], 0)
        );
    }

    #[test]
    fn who_asks_for_ever_is_refused() {
        let ask = [
            record(GET_VALUES, 0, b"", 0),
            record(77, 0, b"", 0),
            begin(3, 1, 1),
        ];
        for asked in &ask {
            let opened = [begin(1, 1, 1), asked.repeat(REPLIES_MAX)].concat();
            let (.., replies) = read(&[&opened]).expect("so many are answered");
            assert_eq!(replies.len() % REPLIES_MAX, 0);
            assert!(!replies.is_empty());
            let refused = read(&[&opened, asked]);
            assert_eq!(refused, Err(PeerFault::InvalidRecord), "{asked:?}");
        }
    }

    #[test]
    fn what_cannot_be_has_a_name() {
        let refused = |bytes: &[u8]| read(&[bytes]).expect_err("refused");
        assert_eq!(refused(b"GET / HTTP/1.1\r\n"), PeerFault::UnexpectedHttp);
        assert_eq!(refused(&[0, 9, 0, 0]), PeerFault::UnexpectedUwsgi);
        assert_eq!(refused(&[22, 3, 1]), PeerFault::UnexpectedTls);
        assert_eq!(refused(&[2, 1]), PeerFault::InvalidRecord);
        assert_eq!(refused(&begin(1, 3, 0)), PeerFault::UnsupportedRole);
        assert_eq!(
            refused(&record(BEGIN_REQUEST, 1, b"\0", 0)),
            PeerFault::InvalidRecord
        );
        assert_eq!(
            refused(&[begin(1, 1, 0), begin(1, 1, 0)].concat()),
            PeerFault::InvalidRecord
        );
        let short = [
            begin(1, 1, 0),
            record(PARAMS, 1, b"\x05\x01abc", 0),
            record(PARAMS, 1, b"", 0),
        ]
        .concat();
        assert_eq!(refused(&short), PeerFault::InvalidRecord);
        let long = [begin(1, 1, 0), record(PARAMS, 1, &[0; 1001], 0)].concat();
        assert_eq!(refused(&long), PeerFault::HeadTooLong);
        let aborted = [begin(1, 1, 0), record(ABORT_REQUEST, 1, b"", 0)].concat();
        assert_eq!(refused(&aborted), PeerFault::AbortedRequest);
    }

    #[test]
    fn what_is_long_is_in_several_records() {
        let mut out = vec![7; CONTENT_MAX + 5];
        frame_output(1, 3, &mut out);
        assert_eq!(out.len(), CONTENT_MAX + 5 + 2 * HEADER);
        assert_eq!(out[..3], [7; 3]);
        assert_eq!(out[3..11], [1, STDOUT, 0, 1, 0xff, 0xf8, 0, 0]);
        assert_eq!(
            out[3 + HEADER + CONTENT_MAX..][..8],
            [1, STDOUT, 0, 1, 0, 2, 0, 0]
        );
    }

    #[test]
    fn a_kept_connection_brings_the_next_request() {
        let mut decoder = Decoder::new(1000);
        let both = [request(1), request(1)].concat();
        let (mut at, mut ends) = (0, 0);
        while at < both.len() {
            let (used, event) = decoder.poll(&both[at..]).expect("good");
            at += used;
            if event == Event::BodyEnd {
                ends += 1;
                assert_eq!(decoder.poll(&both[at..]), Ok((0, Event::NeedMore)));
                decoder.start_next();
                assert!(decoder.is_idle() && decoder.keeps_connection());
            }
        }
        assert_eq!(ends, 2);
    }
}
