//! The server's own answers to what an application fails at.

use oxicorn_link::wire::{ResponseEncoder, ResponseHead};

/// Head (in the link's encoding) and body of an error the server answers with itself.
pub(crate) fn error_response(status: u16) -> (Vec<u8>, String) {
    let page = error_page(status);
    (error_head(status, page.len()), page)
}

/// The head for an error page of `length` bytes, in the link's encoding.
pub(crate) fn error_head(status: u16, length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reason = reason_phrase(status).as_bytes();
    let mut encoder = ResponseEncoder::begin(&mut bytes, &ResponseHead { status, reason });
    encoder.header(b"Content-Type", b"text/html");
    encoder.header(b"Content-Length", length.to_string().as_bytes());
    encoder.finish();
    bytes
}

/// Gunicorn's page for errors of the server.
pub(crate) fn error_page(status: u16) -> String {
    let reason = reason_phrase(status);
    format!(
        "<html>\n  <head>\n    <title>{reason}</title>\n  </head>\n  <body>\n    \
         <h1><p>{reason}</p></h1>\n  </body>\n</html>\n"
    )
}

/// The phrase of a status that is the server's own.
pub(crate) const fn reason_phrase(status: u16) -> &'static str {
    match status {
        103 => "Early Hints",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
