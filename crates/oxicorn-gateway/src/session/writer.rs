//! How an answer becomes bytes: the only thing that who answers knows of a protocol.

use oxicorn_proto::LocalMisuse;
use oxicorn_proto::fastcgi::{frame_output, write_output_end};
use oxicorn_proto::http1::{
    self, Next, ResponseFraming, ResponseHead, check_field_value, check_trailer_name,
};
use oxicorn_proto::message::RequestHead;

use crate::buffer::records::{Kind, Records, write_empty, write_record};

/// Writes the answer of one exchange.
#[derive(Debug)]
pub(crate) struct Writer<'s> {
    pub(super) http: &'s mut http1::Connection,
    /// Everything goes in records.
    pub(super) records: Option<Records>,
}

type Headers<'h> = (&'h [u8], &'h [u8]);

impl Writer<'_> {
    /// Everything goes in such records: a body cannot be sent as it is.
    pub(crate) fn records(&self) -> Option<Records> {
        self.records
    }

    /// No exchange after this one.
    pub(crate) fn deny_keep_alive(&mut self) {
        self.http.deny_keep_alive();
    }

    /// The head that is answered, in these bytes.
    pub(crate) fn request<'a>(&'a self, bytes: &'a [u8]) -> RequestHead<'a> {
        self.http.head(bytes)
    }

    /// A 1xx, where the peer can do something with it.
    pub(crate) fn informational<'h>(
        &mut self,
        status: u16,
        headers: impl IntoIterator<Item = Headers<'h>>,
        out: &mut Vec<u8>,
    ) -> Result<bool, LocalMisuse> {
        match self.records {
            Some(Records::Http2) => write_record(Kind::Informational, out, |out| {
                self.http.encode_informational(status, headers, out)
            }),
            _ => self.http.encode_informational(status, headers, out),
        }
    }

    /// The head; decides how the end of the body is told.
    pub(crate) fn head<'h>(
        &mut self,
        head: &ResponseHead<'_>,
        headers: impl IntoIterator<Item = Headers<'h>>,
        out: &mut Vec<u8>,
    ) -> Result<ResponseFraming, LocalMisuse> {
        let start = out.len();
        if self.records == Some(Records::Http2) {
            return write_record(Kind::Head, out, |out| {
                self.http.encode_response_head(head, headers, out)
            });
        }
        let framing = self.http.encode_response_head(head, headers, out)?;
        if let Some(Records::FastCgi(id)) = self.records {
            frame_output(id, start, out);
        }
        Ok(framing)
    }

    /// A short body.
    pub(crate) fn body(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<u64, LocalMisuse> {
        let start = out.len();
        if self.records == Some(Records::Http2) {
            let outcome = write_record(Kind::Data, out, |out| self.http.encode_body(body, out))?;
            return Ok(outcome.sent);
        }
        let sent = self.http.encode_body(body, out)?.sent;
        if let Some(Records::FastCgi(id)) = self.records {
            frame_output(id, start, out);
        }
        Ok(sent)
    }

    /// All that follows is body, and nobody frames it: another protocol's.
    pub(crate) fn switch(&mut self, out: &mut Vec<u8>) {
        if self.records == Some(Records::Http2) {
            write_empty(Kind::Raw, out);
        }
    }

    /// What stands before `len` bytes of body that the caller puts there; says how many of them may be sent.
    pub(crate) fn before_body(&mut self, len: u64, out: &mut Vec<u8>) -> Result<u64, LocalMisuse> {
        Ok(self.http.body_prefix(len, out)?.sent)
    }

    /// What stands after them.
    pub(crate) fn after_body(&mut self, out: &mut Vec<u8>) -> Result<(), LocalMisuse> {
        self.http.body_suffix(out)
    }

    /// The end of the answer.
    pub(crate) fn finish<'h>(
        &mut self,
        trailers: impl IntoIterator<Item = Headers<'h>>,
        out: &mut Vec<u8>,
    ) -> Result<Next, LocalMisuse> {
        let Some(records) = self.records else {
            return self.http.finish_response(trailers, out);
        };
        match records {
            Records::FastCgi(id) => {
                let next = self.http.finish_response(trailers, out)?;
                write_output_end(id, out);
                Ok(next)
            }
            Records::Http2 => {
                let next = self.http.finish_response([], out)?;
                write_trailers(trailers, out)?;
                Ok(next)
            }
        }
    }
}

/// The end of an answer by HTTP/2. Names that no trailer may have are the application's mistake, as with HTTP/1.
fn write_trailers<'h>(
    trailers: impl IntoIterator<Item = Headers<'h>>,
    out: &mut Vec<u8>,
) -> Result<(), LocalMisuse> {
    let mut trailers = trailers.into_iter().peekable();
    if trailers.peek().is_none() {
        write_empty(Kind::End, out);
        return Ok(());
    }
    write_record(Kind::Trailers, out, |out| {
        for (name, value) in trailers {
            check_trailer_name(name)?;
            check_field_value(value)?;
            for part in [name, b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        Ok(())
    })
}
