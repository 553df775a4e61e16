//! Pieces of an answer that tell their own length, for carriers that frame.
//!
//! FastCGI's records are what the web server reads. Those of HTTP/2 never leave the process: [`Reader`] takes them
//! apart again where frames are made of them, at the end of an output that knows bytes and files only.

use std::io;

use oxicorn_proto::fastcgi::{self, write_output_header};

/// Most bytes of content in one record of HTTP/2: as many as are read from a file at a time.
const CONTENT_MAX: usize = 64 * 1024;

/// Bytes of a record's header for HTTP/2: its kind, and the length of its content.
pub(crate) const HEADER: usize = 5;

/// What any record takes beside its content, at most.
const HEADER_MOST: usize = 16;

/// How an answer is cut into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Records {
    /// Those of FastCGI, for the request of this number.
    FastCgi(u16),
    /// Those of which a stream of HTTP/2 makes frames.
    Http2,
}

/// What a record for HTTP/2 has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A 1xx, as text.
    Informational = 1,
    /// The head, as text.
    Head,
    /// A piece of the body.
    Data,
    /// Fields as text, and nothing after them.
    Trailers,
    /// Nothing: the answer is complete.
    End,
    /// Nothing: all that follows is body, without records.
    Raw,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        [
            Self::Informational,
            Self::Head,
            Self::Data,
            Self::Trailers,
            Self::End,
            Self::Raw,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

impl Records {
    /// Most bytes of body in one.
    pub(crate) fn most(self) -> usize {
        match self {
            Self::FastCgi(_) => fastcgi::CONTENT_MAX,
            Self::Http2 => CONTENT_MAX,
        }
    }

    /// Bytes that so many bytes of body take with what stands around them, and an end.
    pub(crate) fn space(self, len: usize) -> usize {
        len + (len / self.most() + 2) * HEADER_MOST
    }

    /// Appends what stands before so many bytes of body.
    pub(crate) fn write_header(self, len: usize, out: &mut Vec<u8>) {
        match self {
            Self::FastCgi(id) => write_output_header(id, len, out),
            Self::Http2 => write_header(Kind::Data, len, out),
        }
    }
}

fn write_header(kind: Kind, len: usize, out: &mut Vec<u8>) {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    out.push(kind as u8);
    out.extend_from_slice(&len.to_le_bytes());
}

/// Appends a record with what `write` appends; as before if that fails.
pub(crate) fn write_record<T, E>(
    kind: Kind,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<T, E>,
) -> Result<T, E> {
    let start = out.len();
    write_header(kind, 0, out);
    let written = write(out);
    if written.is_ok() {
        let len = u32::try_from(out.len() - start - HEADER).unwrap_or(u32::MAX);
        out[start + 1..start + HEADER].copy_from_slice(&len.to_le_bytes());
    } else {
        out.truncate(start);
    }
    written
}

/// Appends a record without content.
pub(crate) fn write_empty(kind: Kind, out: &mut Vec<u8>) {
    write_header(kind, 0, out);
}

/// Who is given what records have.
pub(crate) trait Sink {
    /// All of a record that is no body; `ends`: the answer is complete with it.
    fn whole(&mut self, kind: Kind, content: &[u8], ends: bool) -> io::Result<()>;

    /// A piece of the body; says how much of it was taken. `ends`: the answer is complete with all of it.
    fn data(&mut self, piece: &[u8], ends: bool) -> io::Result<usize>;
}

/// Takes records apart, however they are cut.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// What has come of a header, or of a record that is no body.
    kept: Vec<u8>,
    /// Bytes that the current piece of body still has.
    rest: usize,
    is_raw: bool,
}

impl Reader {
    /// Gives `sink` what `bytes` have, until it takes no more; says how many bytes are used up.
    pub(crate) fn feed(&mut self, bytes: &[u8], sink: &mut impl Sink) -> io::Result<usize> {
        let mut at = 0;
        while at < bytes.len() {
            let now = &bytes[at..];
            if self.is_raw {
                return Ok(at + sink.data(now, false)?);
            }
            if self.rest == 0 {
                at += self.take_record(now, sink)?;
                continue;
            }
            let (piece, after) = now.split_at(self.rest.min(now.len()));
            let ends = piece.len() == self.rest && is_end(after);
            let taken = sink.data(piece, ends)?;
            self.rest -= taken;
            at += taken;
            if taken < piece.len() {
                return Ok(at);
            }
            if ends {
                at += HEADER;
            }
        }
        Ok(at)
    }

    /// A record begins, or goes on that has not come whole. One that is whole is read where it lies.
    fn take_record(&mut self, bytes: &[u8], sink: &mut impl Sink) -> io::Result<usize> {
        if self.kept.is_empty()
            && let Some((kind, len)) = read_header(bytes)?
        {
            let used = if kind == Kind::Data {
                HEADER
            } else {
                HEADER + len
            };
            if let Some((record, after)) = bytes.split_at_checked(used) {
                return Ok(used + self.take(kind, len, &record[HEADER..], after, sink)?);
            }
        }
        self.keep(bytes, sink)
    }

    /// Bytes of a header, or of a record that is no body.
    fn keep(&mut self, bytes: &[u8], sink: &mut impl Sink) -> io::Result<usize> {
        let Some((kind, len)) = read_header(&self.kept)? else {
            let count = (HEADER - self.kept.len()).min(bytes.len());
            self.kept.extend_from_slice(&bytes[..count]);
            let is_empty = matches!(
                read_header(&self.kept)?,
                Some((kind, len)) if kind == Kind::Data || len == 0
            );
            return Ok(count
                + if is_empty {
                    self.finish(&bytes[count..], sink)?
                } else {
                    0
                });
        };
        let count = (HEADER + len - self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..count]);
        let is_whole = kind == Kind::Data || self.kept.len() == HEADER + len;
        Ok(count
            + if is_whole {
                self.finish(&bytes[count..], sink)?
            } else {
                0
            })
    }

    /// What is kept is whole; says how many of the bytes behind it are used up with it.
    fn finish(&mut self, after: &[u8], sink: &mut impl Sink) -> io::Result<usize> {
        let Some((kind, len)) = read_header(&self.kept)? else {
            return Ok(0);
        };
        let kept = std::mem::take(&mut self.kept);
        self.take(kind, len, &kept[HEADER..], after, sink)
    }

    /// A record of which all is here that is no body.
    fn take(
        &mut self,
        kind: Kind,
        len: usize,
        content: &[u8],
        after: &[u8],
        sink: &mut impl Sink,
    ) -> io::Result<usize> {
        match kind {
            Kind::Data => self.rest = len,
            Kind::Raw => self.is_raw = true,
            _ => {
                let ends = is_end(after);
                sink.whole(kind, content, ends)?;
                return Ok(if ends { HEADER } else { 0 });
            }
        }
        Ok(0)
    }

    /// Whether another record may come: none is under way, and what comes is in records.
    pub(crate) fn is_between_records(&self) -> bool {
        self.rest == 0 && self.kept.is_empty() && !self.is_raw
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.kept.capacity()
    }
}

/// The header at the front, once it is there.
fn read_header(bytes: &[u8]) -> io::Result<Option<(Kind, usize)>> {
    let &[number, a, b, c, d, ..] = bytes else {
        return Ok(None);
    };
    let kind = Kind::of(number).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some((kind, u32::from_le_bytes([a, b, c, d]) as usize)))
}

/// Whether the answer ends here.
pub(crate) fn is_end(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER && bytes[0] == Kind::End as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Seen {
        all: Vec<(Option<Kind>, Vec<u8>, bool)>,
        room: usize,
    }

    impl Sink for Seen {
        fn whole(&mut self, kind: Kind, content: &[u8], ends: bool) -> io::Result<()> {
            self.all.push((Some(kind), content.to_vec(), ends));
            Ok(())
        }

        fn data(&mut self, piece: &[u8], ends: bool) -> io::Result<usize> {
            let count = piece.len().min(self.room);
            let ends = ends && count == piece.len();
            match self.all.last_mut() {
                Some((None, before, ended)) => {
                    before.extend_from_slice(&piece[..count]);
                    *ended = ends;
                }
                _ => self.all.push((None, piece[..count].to_vec(), ends)),
            }
            Ok(count)
        }
    }

    fn answer() -> Vec<u8> {
        let mut out = Vec::new();
        let head = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"head");
            Ok::<_, ()>(())
        };
        write_record(Kind::Informational, &mut out, head).expect("written");
        write_record(Kind::Head, &mut out, head).expect("written");
        for piece in [&b"some"[..], b"", b" body"] {
            Records::Http2.write_header(piece.len(), &mut out);
            out.extend_from_slice(piece);
        }
        write_empty(Kind::End, &mut out);
        out
    }

    #[test]
    fn records_are_found_at_any_cut() {
        let bytes = answer();
        for size in 1..=bytes.len() {
            let (mut reader, mut seen) = (Reader::default(), Seen::default());
            seen.room = 3;
            let mut from = 0;
            while from < bytes.len() {
                let end = bytes.len().min(from + size.max(1));
                from += reader.feed(&bytes[from..end], &mut seen).expect("good");
            }
            let body: Vec<_> = seen.all.iter().filter(|one| one.0.is_none()).collect();
            assert_eq!(
                seen.all[0],
                (Some(Kind::Informational), b"head".to_vec(), false)
            );
            assert_eq!(seen.all[1], (Some(Kind::Head), b"head".to_vec(), false));
            assert_eq!(body.len(), 1);
            assert_eq!(body[0].1, b"some body");
            let told = body[0].2 || matches!(seen.all.last(), Some((Some(Kind::End), ..)));
            assert!(told, "the end, in pieces of {size}");
        }
    }

    #[test]
    fn an_end_that_follows_at_once_goes_along() {
        let (mut reader, mut seen) = (Reader::default(), Seen::default());
        seen.room = 100;
        let bytes = answer();
        assert_eq!(reader.feed(&bytes, &mut seen).ok(), Some(bytes.len()));
        assert_eq!(seen.all.last(), Some(&(None, b"some body".to_vec(), true)));
        let mut out = Vec::new();
        write_record(Kind::Head, &mut out, |_| Ok::<_, ()>(())).expect("written");
        write_empty(Kind::End, &mut out);
        let (mut reader, mut seen) = (Reader::default(), Seen::default());
        assert_eq!(reader.feed(&out, &mut seen).ok(), Some(out.len()));
        assert_eq!(seen.all, [(Some(Kind::Head), Vec::new(), true)]);
    }

    #[test]
    fn what_follows_raw_is_body_whatever_it_looks_like() {
        let mut out = Vec::new();
        write_empty(Kind::Raw, &mut out);
        out.extend_from_slice(&answer());
        let (mut reader, mut seen) = (Reader::default(), Seen::default());
        seen.room = 1000;
        assert_eq!(reader.feed(&out, &mut seen).ok(), Some(out.len()));
        assert_eq!(seen.all, [(None, answer(), false)]);
    }
}
