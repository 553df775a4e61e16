//! How an answer becomes bytes: the only thing that who answers knows of a protocol.

use oxicorn_proto::LocalMisuse;
use oxicorn_proto::fastcgi::{frame_output, write_output_end};
use oxicorn_proto::http1::{self, Next, ResponseFraming, ResponseHead};
use oxicorn_proto::message::RequestHead;

/// Writes the answer of one exchange.
#[derive(Debug)]
pub(crate) struct Writer<'s> {
    pub(super) http: &'s mut http1::Connection,
    /// Everything goes in records, for the request of this number.
    pub(super) records: Option<u16>,
}

type Headers<'h> = (&'h [u8], &'h [u8]);

impl Writer<'_> {
    /// Everything goes in records of FastCGI: a body cannot be sent as it is.
    pub(crate) fn records(&self) -> Option<u16> {
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
        self.http.encode_informational(status, headers, out)
    }

    /// The head; decides how the end of the body is told.
    pub(crate) fn head<'h>(
        &mut self,
        head: &ResponseHead<'_>,
        headers: impl IntoIterator<Item = Headers<'h>>,
        out: &mut Vec<u8>,
    ) -> Result<ResponseFraming, LocalMisuse> {
        let start = out.len();
        let framing = self.http.encode_response_head(head, headers, out)?;
        if let Some(id) = self.records {
            frame_output(id, start, out);
        }
        Ok(framing)
    }

    /// A short body.
    pub(crate) fn body(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<u64, LocalMisuse> {
        let start = out.len();
        let sent = self.http.encode_body(body, out)?.sent;
        if let Some(id) = self.records {
            frame_output(id, start, out);
        }
        Ok(sent)
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
        let next = self.http.finish_response(trailers, out)?;
        if let Some(id) = self.records {
            write_output_end(id, out);
        }
        Ok(next)
    }
}
