//! Lines that the server adds to every response.
//!
//! Decides that they are made, and looked through for what could end a line, when what they say changes, not
//! for every response.

use super::grammar::{check_field_name, check_field_value};
use crate::fault::LocalMisuse;

/// One line with its end, or none at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnLine(Vec<u8>);

impl OwnLine {
    /// `name: value`. Whoever gives no value wants no empty line in its place.
    pub fn new(name: &[u8], value: &[u8]) -> Result<Self, LocalMisuse> {
        check_field_name(name)?;
        check_field_value(value)?;
        if value.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self([name, b": ", value, b"\r\n"].concat()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_can_be_ended_by_its_value() {
        for byte in *b"\r\n\0\x0b\x7f" {
            let evil = [b'a', byte, b'b'];
            let misuse = Err(LocalMisuse::InvalidFieldValue);
            assert_eq!(OwnLine::new(b"Server", &evil), misuse);
            let misuse = Err(LocalMisuse::InvalidFieldName);
            assert_eq!(OwnLine::new(&evil, b"oxicorn"), misuse);
        }
    }

    #[test]
    fn without_a_value_there_is_no_line() {
        assert_eq!(OwnLine::new(b"Server", b""), Ok(OwnLine::default()));
        assert_eq!(OwnLine::default().bytes(), b"");
    }
}
