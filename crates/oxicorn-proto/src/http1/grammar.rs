//! The byte classes of RFC 9110 and 9112, as tables and as the few checks made of them.

use crate::fault::LocalMisuse;

/// Is it a token (RFC 9110 section 5.6.2)? Names of headers, of the application's too.
pub fn check_field_name(name: &[u8]) -> Result<(), LocalMisuse> {
    let _ = name;
    todo!()
}

/// Is it free of control bytes (RFC 9110 section 5.5)? Values of headers and reason phrases.
pub fn check_field_value(value: &[u8]) -> Result<(), LocalMisuse> {
    let _ = value;
    todo!()
}

/// Appends `path` with its percent-encoded bytes decoded; what is not two hexadecimal digits after
/// a `%` stays as it is.
pub fn percent_decode(path: &[u8], out: &mut Vec<u8>) {
    let _ = (path, out);
    todo!()
}

/// The first line of `input` as far as it has come, without its end: what a log can say of a
/// request that was refused.
pub fn first_line(input: &[u8]) -> &[u8] {
    input
}
