//! The fields of a payload, each as the bytes of its value: for whoever passes values on without reading them.

use super::value::{DEPTH_MAX, tag};
use super::{Fault, ITEMS_MAX, Item, Reader};

/// Bytes of an external value behind its tag.
const EXTERNAL_LENGTH: usize = 17;

/// How many bytes the value at the beginning of `input` has.
///
/// Looks at the borders only: texts may be no UTF-8 and keys no texts. Takes time in proportion to what it passes.
pub fn value_length(input: &[u8]) -> Result<usize, Fault> {
    walk(input, |_| ())
}

/// Where in the memory file the bytes lie that the value at the beginning of `input` has there: offsets and lengths.
pub fn externals(input: &[u8]) -> Result<Vec<(u64, u64)>, Fault> {
    let mut found = Vec::new();
    walk(input, |own| {
        let [tag::EXTERNAL, _, place @ ..] = own else {
            return;
        };
        if let Some((offset, length)) = place.split_first_chunk()
            && let Some(length) = length.first_chunk()
        {
            found.push((u64::from_be_bytes(*offset), u64::from_be_bytes(*length)));
        }
    })?;
    Ok(found)
}

/// Passes one value; of each that it consists of its own bytes are shown. How many bytes that were.
fn walk<'a>(input: &'a [u8], mut show: impl FnMut(&'a [u8])) -> Result<usize, Fault> {
    let mut at = 0;
    // How many values are still to come at each depth.
    let mut open = vec![1_usize];
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        let rest = &input[at..];
        let (length, values) = one(rest)?;
        show(rest.get(..length).ok_or(Fault::Truncated)?);
        at += length;
        if values > 0 {
            if open.len() > DEPTH_MAX {
                return Err(Fault::TooDeep);
            }
            open.push(values);
        }
    }
    Ok(at)
}

/// Bytes of a value's own, and how many values follow that belong to it.
fn one(input: &[u8]) -> Result<(usize, usize), Fault> {
    let (&kind, rest) = input.split_first().ok_or(Fault::Truncated)?;
    let number = || {
        let bytes = rest.first_chunk().ok_or(Fault::Truncated)?;
        Ok(u32::from_be_bytes(*bytes) as usize)
    };
    let items = |each: usize| {
        let count = number()?;
        if count > ITEMS_MAX {
            return Err(Fault::TooMany(count));
        }
        Ok((5, each * count))
    };
    match kind {
        tag::NONE => Ok((1, 0)),
        tag::BOOL => Ok((2, 0)),
        tag::INT | tag::FLOAT => Ok((9, 0)),
        tag::BYTES | tag::TEXT | tag::BIG_INT | tag::BYTE_ARRAY => Ok((5 + number()?, 0)),
        tag::LIST | tag::TUPLE => items(1),
        tag::MAP | tag::PAIRS => items(2),
        tag::BUFFER | tag::TENSOR => Ok((1, 3)),
        tag::PICKLE => Ok((1, 2)),
        tag::EXTERNAL => Ok((1 + EXTERNAL_LENGTH, 0)),
        tag => Err(Fault::Tag(tag)),
    }
}

/// Reads the fields of a payload, which is a dictionary, one after the other.
#[derive(Debug)]
pub struct Fields<'a> {
    left: usize,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of `payload`.
    pub fn new(payload: &'a [u8]) -> Result<Self, Fault> {
        let Some((&tag::MAP, rest)) = payload.split_first() else {
            return Err(payload
                .first()
                .map_or(Fault::Truncated, |&tag| Fault::Tag(tag)));
        };
        let (left, rest) = rest.split_first_chunk().ok_or(Fault::Truncated)?;
        Ok(Self {
            left: u32::from_be_bytes(*left) as usize,
            rest,
        })
    }

    /// The next one: its name and the bytes of its value.
    pub fn next_field(&mut self) -> Result<Option<(&'a str, &'a [u8])>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let key = self.take()?;
        let Some(Item::Text(key)) = Reader::new(key).next_item()? else {
            return Err(Fault::Key);
        };
        Ok(Some((key, self.take()?)))
    }

    fn take(&mut self) -> Result<&'a [u8], Fault> {
        let (value, rest) = self.rest.split_at(value_length(self.rest)?);
        self.rest = rest;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dictionary in which every kind of value is.
    fn payload() -> Vec<u8> {
        let mut payload = b"\x21\0\0\0\x05".to_vec();
        payload.extend(
            b"\x11\0\0\0\x01a\x22\0\0\0\x03\x07\0\0\0\x09123456789\x05\0\0\0\0\0\0\0\x01\x00",
        );
        payload.extend(b"\x11\0\0\0\x01b\x23\0\0\0\x01\x05\0\0\0\0\0\0\0\x01\x12\0\0\0\x02xy");
        payload.extend(b"\x11\0\0\0\x01c\x24\x11\0\0\0\x01d\x20\0\0\0\0\x30\x10");
        payload.extend([0; 16]);
        payload.extend(b"\x11\0\0\0\x01t\x25\x11\0\0\0\x01b\x20\0\0\0\0\x12\0\0\0\x01x");
        payload.extend(b"\x11\0\0\0\x01d\x31\x10\0\0\0\x01p\x20\0\0\0\x01\x01\x01");
        payload
    }

    fn names(payload: &[u8]) -> Result<Vec<(&str, usize)>, Fault> {
        let mut fields = Fields::new(payload)?;
        let mut names = Vec::new();
        while let Some((name, value)) = fields.next_field()? {
            names.push((name, value.len()));
        }
        Ok(names)
    }

    #[test]
    fn are_given_out_with_their_bytes() {
        let payload = payload();
        let found = names(&payload);
        let expected = vec![("a", 29), ("b", 21), ("c", 30), ("t", 18), ("d", 14)];
        assert_eq!(found, Ok(expected));
        assert_eq!(value_length(&payload), Ok(payload.len()));
    }

    #[test]
    fn tell_what_lies_in_the_memory_file() {
        let mut payload = b"\x20\0\0\0\x03\x30\x10".to_vec();
        payload.extend([0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 1, 0, 0]);
        payload.extend(b"\x24\x11\0\0\0\x01d\x20\0\0\0\0\x30\x12");
        payload.extend([0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        payload.extend(b"\x10\0\0\0\x02\x30\x10");
        assert_eq!(
            externals(&payload),
            Ok(vec![(64, 1 << 16), (1 << 17, 1 << 32)])
        );
        assert_eq!(
            externals(&payload[..payload.len() - 1]),
            Err(Fault::Truncated)
        );
    }

    #[test]
    fn a_payload_cut_anywhere_is_a_fault() {
        let whole = payload();
        for end in 0..whole.len() {
            assert_eq!(names(&whole[..end]), Err(Fault::Truncated), "{end}");
        }
    }

    #[test]
    fn any_byte_changed_is_read_without_a_panic() {
        let whole = payload();
        for place in 0..whole.len() {
            for byte in 0..=u8::MAX {
                let mut changed = whole.clone();
                changed[place] = byte;
                if let Ok(found) = names(&changed) {
                    assert!(found.iter().map(|(_, length)| length).sum::<usize>() <= whole.len());
                }
            }
        }
    }

    #[test]
    fn depth_and_items_have_bounds() {
        let deep = b"\x20\0\0\0\x01".repeat(DEPTH_MAX + 1);
        assert_eq!(value_length(&deep), Err(Fault::TooDeep));
        assert_eq!(
            value_length(b"\x22\0\x10\0\x01"),
            Err(Fault::TooMany(ITEMS_MAX + 1))
        );
    }
}
