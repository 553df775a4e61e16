//! As much of protobuf's wire format as OTLP needs (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! Written by hand because the crates with OTLP's types bring an SDK, an executor and a generator of code along, for
//! some ten messages that have been stable for years. Writes into one buffer; a nested message is written first and its
//! length put in front of it.

/// How the value of a field is written.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn key(field: u64, kind: u64, out: &mut Vec<u8>) {
    varint(field << 3 | kind, out);
}

/// A number: `uint64`, `int64` or an enumeration.
pub(super) fn number(field: u64, value: u64, out: &mut Vec<u8>) {
    key(field, VARINT, out);
    varint(value, out);
}

/// `fixed64`
pub(super) fn fixed64(field: u64, value: u64, out: &mut Vec<u8>) {
    key(field, FIXED64, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// `double`
pub(super) fn double(field: u64, value: f64, out: &mut Vec<u8>) {
    fixed64(field, value.to_bits(), out);
}

/// `fixed32`
pub(super) fn fixed32(field: u64, value: u32, out: &mut Vec<u8>) {
    key(field, FIXED32, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// `bytes`, or a `string` that is known to be UTF-8.
pub(super) fn bytes(field: u64, value: &[u8], out: &mut Vec<u8>) {
    key(field, BYTES, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// A nested message, which `write` appends.
pub(super) fn message(field: u64, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    key(field, BYTES, out);
    let start = out.len();
    write(out);
    let end = out.len();
    varint((end - start) as u64, out);
    let length = out.len() - end;
    out[start..].rotate_right(length);
}

/// The value of a field that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// Fields of a message of somebody else; ends early where it is not well-formed.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let part = u64::from(byte & 0x7f);
            number |= part.checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let value = match key & 7 {
            VARINT => Value::Number(self.varint()?),
            FIXED64 => self.take(8).map(|_| Value::Other)?,
            BYTES => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            FIXED32 => self.take(4).map(|_| Value::Other)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn writes_the_examples_of_the_format() {
        let mut out = Vec::new();
        number(1, 150, &mut out);
        bytes(2, b"testing", &mut out);
        message(3, &mut out, |out| number(1, 150, out));
        assert_eq!(out, b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01");
    }

    #[test]
    fn long_messages_have_their_length_in_front() {
        let long = vec![b'x'; 300];
        let mut out = Vec::new();
        message(1, &mut out, |out| bytes(2, &long, out));
        let fields: Vec<_> = Fields(&out).collect();
        let [(1, Value::Bytes(inner))] = fields[..] else {
            panic!("{fields:?}");
        };
        let inner: Vec<_> = Fields(inner).collect();
        assert_eq!(inner, [(2, Value::Bytes(&long[..]))]);
    }

    #[test]
    fn numbers_of_all_widths_are_passed_over() {
        let mut out = Vec::new();
        fixed64(1, 7, &mut out);
        fixed32(2, 7, &mut out);
        number(3, u64::MAX, &mut out);
        let fields: Vec<_> = Fields(&out).collect();
        assert_eq!(
            fields,
            [
                (1, Value::Other),
                (2, Value::Other),
                (3, Value::Number(u64::MAX))
            ]
        );
    }

    proptest! {
        #[test]
        fn no_answer_of_a_collector_breaks_anything(answer in proptest::collection::vec(any::<u8>(), 0..200)) {
            let count = Fields(&answer).count();
            prop_assert!(count <= answer.len());
        }
    }
}
