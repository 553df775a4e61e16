//! Lists of headers (and trailers, and variables) within a payload.
//!
//! Each entry is `name length u32 | value length u32 | name | value`, one after the other: written
//! in one pass without knowing how many there will be, read in one pass without an index.

use super::{Input, Malformed, len32};

/// A checked list of (name, value) pairs within a payload.
#[derive(Clone, Copy, Default)]
pub struct HeaderList<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> HeaderList<'a> {
    /// Checks that `bytes` are whole entries and nothing else.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = Input(bytes);
        let mut count = 0;
        while !rest.0.is_empty() {
            next_entry(&mut rest)?;
            count += 1;
        }
        Ok(Self { bytes, count })
    }

    /// Appends one entry to `out`; an encoded list is nothing but such entries.
    pub fn encode_entry(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        let mut lengths = [0; 8];
        lengths[..4].copy_from_slice(&len32(name).to_ne_bytes());
        lengths[4..].copy_from_slice(&len32(value).to_ne_bytes());
        out.extend_from_slice(&lengths);
        out.extend_from_slice(name);
        out.extend_from_slice(value);
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entries in the order they were written.
    pub fn iter(&self) -> Headers<'a> {
        Headers {
            rest: Input(self.bytes),
            count: self.count,
        }
    }
}

impl<'a> IntoIterator for HeaderList<'a> {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Headers<'a>;

    fn into_iter(self) -> Headers<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &HeaderList<'a> {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Headers<'a>;

    fn into_iter(self) -> Headers<'a> {
        self.iter()
    }
}

impl std::fmt::Debug for HeaderList<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (text(name), text(value))))
            .finish()
    }
}

impl PartialEq for HeaderList<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for HeaderList<'_> {}

/// Iterator over the (name, value) pairs of a [`HeaderList`].
pub struct Headers<'a> {
    rest: Input<'a>,
    count: usize,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // The list was checked when it was made; the end of the bytes is the only error left.
        let entry = next_entry(&mut self.rest).ok()?;
        self.count = self.count.saturating_sub(1);
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Headers<'_> {}

fn next_entry<'a>(rest: &mut Input<'a>) -> Result<(&'a [u8], &'a [u8]), Malformed> {
    let lengths = rest.u64()?.to_ne_bytes();
    let [n0, n1, n2, n3, v0, v1, v2, v3] = lengths;
    let name = rest.take(u32::from_ne_bytes([n0, n1, n2, n3]) as usize)?;
    let value = rest.take(u32::from_ne_bytes([v0, v1, v2, v3]) as usize)?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::HeaderList;

    fn encoded(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in entries {
            HeaderList::encode_entry(&mut out, name, value);
        }
        out
    }

    #[test]
    fn entries_come_back_in_order() {
        let entries: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"b", b""), (b"a", b"2")];
        let bytes = encoded(&entries);
        let list = HeaderList::decode(&bytes).unwrap();
        assert_eq!(list.len(), 3);
        assert!(list.iter().eq(entries));
    }

    #[test]
    fn no_bytes_are_an_empty_list() {
        assert!(HeaderList::decode(b"").unwrap().is_empty());
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = encoded(&[(b"name", b"value")]);
        for len in 1..bytes.len() {
            assert!(HeaderList::decode(&bytes[..len]).is_err(), "{len}");
        }
    }
}
