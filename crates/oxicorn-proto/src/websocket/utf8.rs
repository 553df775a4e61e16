//! UTF-8 in pieces: a wrong byte is noticed when it comes, not when its character would be over.
//!
//! The standard library's check says of an error whether more bytes could have helped. Where they
//! could, the beginning of the character (at most three bytes) is kept and tried again with what
//! comes next.

/// The state between pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Utf8 {
    begun: [u8; 4],
    len: usize,
}

/// The bytes so far are not the beginning of any UTF-8 text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invalid;

impl Utf8 {
    /// Checks the next piece.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), Invalid> {
        while self.len > 0 {
            let [byte, rest @ ..] = piece else {
                return Ok(());
            };
            self.begun[self.len] = *byte;
            self.len += 1;
            piece = rest;
            match str::from_utf8(&self.begun[..self.len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return Err(Invalid),
                Err(_) => {}
            }
        }
        let Err(error) = str::from_utf8(piece) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(Invalid);
        }
        let begun = &piece[error.valid_up_to()..];
        self.begun[..begun.len()].copy_from_slice(begun);
        self.len = begun.len();
        Ok(())
    }

    /// The text is over.
    pub(super) fn finish(&mut self) -> Result<(), Invalid> {
        if std::mem::take(&mut self.len) == 0 {
            Ok(())
        } else {
            Err(Invalid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the first wrong byte is, fed one by one; the length for text that ends too early.
    fn wrong_at(text: &[u8]) -> Option<usize> {
        let mut utf8 = Utf8::default();
        for (at, byte) in text.iter().enumerate() {
            if utf8.push(&[*byte]).is_err() {
                return Some(at);
            }
        }
        utf8.finish().err().map(|Invalid| text.len())
    }

    #[test]
    fn the_first_wrong_byte_is_noticed() {
        for (text, at) in [
            (&b""[..], None),
            ("κόσμε, \u{10ffff} \u{d7ff}\u{e000}".as_bytes(), None),
            (b"\xce\xba\xff", Some(2)),
            (b"\x80", Some(0)),
            (b"\xc0\xaf", Some(0)),
            (b"\xe0\x80\xaf", Some(1)),
            (b"\xed\xa0\x80", Some(1)),
            (b"\xf4\x90\x80\x80", Some(1)),
            (b"\xf5\x80", Some(0)),
            (b"a\xe2\x82", Some(3)),
            (b"\xf0\x9f\x98", Some(3)),
        ] {
            assert_eq!(wrong_at(text), at, "{text:x?}");
        }
    }

    #[test]
    fn pieces_are_judged_as_the_whole() {
        let text = "aé漢\u{1f600}z".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut utf8 = Utf8::default();
                for piece in [&text[..first], &text[first..second], &text[second..]] {
                    assert_eq!(utf8.push(piece), Ok(()));
                }
                assert_eq!(utf8.finish(), Ok(()));
            }
        }
    }
}
