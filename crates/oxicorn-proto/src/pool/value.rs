//! The values of a payload, each a tag and what follows.

use super::Fault;

/// Most items of one container (Gunicorn: `MAX_LIST_SIZE`, `MAX_DICT_SIZE`).
pub const ITEMS_MAX: usize = 1024 * 1024;
/// Most containers within each other. Gunicorn has Python's recursion limit, in effect.
pub const DEPTH_MAX: usize = 128;

/// The first byte of a value. Gunicorn's, and behind them those that only oxicorn's two ends say to each other.
pub mod tag {
    /// `None`
    pub const NONE: u8 = 0x00;
    /// `bool`: a byte.
    pub const BOOL: u8 = 0x01;
    /// `int` of 64 bits.
    pub const INT: u8 = 0x05;
    /// `float`
    pub const FLOAT: u8 = 0x06;
    /// `bytes`: length (32 bits), bytes.
    pub const BYTES: u8 = 0x10;
    /// `str`: the same, in UTF-8.
    pub const TEXT: u8 = 0x11;
    /// `list`: number of items (32 bits), items.
    pub const LIST: u8 = 0x20;
    /// `dict` with texts as keys: number of pairs, pairs.
    pub const MAP: u8 = 0x21;

    /// `int` of more than 64 bits: length, two's complement with the lowest byte first.
    pub const BIG_INT: u8 = 0x07;
    /// `bytearray`: as `bytes`.
    pub const BYTE_ARRAY: u8 = 0x12;
    /// `tuple`: as `list`.
    pub const TUPLE: u8 = 0x22;
    /// `dict` with keys that are no texts: as the other one.
    pub const PAIRS: u8 = 0x23;
    /// A buffer (`memoryview`): three values, which are its format, its shape and its bytes.
    pub const BUFFER: u8 = 0x24;
    /// A tensor (`torch.Tensor`): three values, which are the name of its items' type, its shape and its bytes.
    pub const TENSOR: u8 = 0x25;
    /// Bytes that lie in the memory file of the call: what they are (one of the tags above), offset and length (64 bits).
    pub const EXTERNAL: u8 = 0x30;
    /// Pickled: two values, which are the pickle and a list of its buffers. Only where the settings say so.
    pub const PICKLE: u8 = 0x31;
}

use tag::{BOOL, BYTES, FLOAT, INT, LIST, MAP, NONE, TEXT};

/// A value, or the head of a container whose items follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'a> {
    /// `None`
    None,
    /// `bool`
    Bool(bool),
    /// `int` of 64 bits
    Int(i64),
    /// `float`
    Float(f64),
    /// `bytes`
    Bytes(&'a [u8]),
    /// `str`
    Text(&'a str),
    /// `list`: so many items follow.
    List(usize),
    /// `dict`: so many pairs follow, each a text and a value.
    Map(usize),
}

/// What is still to come of a container.
#[derive(Clone, Copy, Debug)]
struct Open {
    items: usize,
    is_map: bool,
}

/// Reads one value, item by item.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    open: Vec<Open>,
    begun: bool,
}

impl<'a> Reader<'a> {
    /// Reads the value that `payload` is.
    pub fn new(payload: &'a [u8]) -> Self {
        Self {
            rest: payload,
            open: Vec::new(),
            begun: false,
        }
    }

    /// The next item; `None` once the value and the payload have ended together. After a fault the
    /// reader is of no further use.
    pub fn next_item(&mut self) -> Result<Option<Item<'a>>, Fault> {
        while self.open.last().is_some_and(|open| open.items == 0) {
            self.open.pop();
        }
        let must_be_key = match self.open.last_mut() {
            Some(open) => {
                open.items -= 1;
                // Keys and values take turns: with a key to come, an even number was left.
                open.is_map && open.items % 2 == 1
            }
            None if self.begun && self.rest.is_empty() => return Ok(None),
            None if self.begun => return Err(Fault::Trailing),
            None => false,
        };
        self.begun = true;
        let item = self.read()?;
        if must_be_key && !matches!(item, Item::Text(_)) {
            return Err(Fault::Key);
        }
        match item {
            Item::List(items) => self.enter(items, false)?,
            Item::Map(pairs) => self.enter(2 * pairs, true)?,
            _ => {}
        }
        Ok(Some(item))
    }

    fn enter(&mut self, items: usize, is_map: bool) -> Result<(), Fault> {
        if self.open.len() == DEPTH_MAX {
            return Err(Fault::TooDeep);
        }
        self.open.push(Open { items, is_map });
        Ok(())
    }

    fn read(&mut self) -> Result<Item<'a>, Fault> {
        let [tag] = self.take()?;
        Ok(match tag {
            NONE => Item::None,
            BOOL => Item::Bool(self.take::<1>()? != [0]),
            INT => Item::Int(i64::from_be_bytes(self.take()?)),
            FLOAT => Item::Float(f64::from_be_bytes(self.take()?)),
            BYTES => Item::Bytes(self.take_counted()?),
            TEXT => Item::Text(str::from_utf8(self.take_counted()?).map_err(|_| Fault::Utf8)?),
            LIST => Item::List(self.count()?),
            MAP => Item::Map(self.count()?),
            tag => return Err(Fault::Tag(tag)),
        })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn take_counted(&mut self) -> Result<&'a [u8], Fault> {
        let length = u32::from_be_bytes(self.take()?) as usize;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn count(&mut self) -> Result<usize, Fault> {
        let count = u32::from_be_bytes(self.take()?) as usize;
        if count > ITEMS_MAX {
            return Err(Fault::TooMany(count));
        }
        Ok(count)
    }
}

/// Appends an item to a payload. The items of a container are written after its head, by whoever
/// wrote that.
pub fn write(item: Item<'_>, payload: &mut Vec<u8>) -> Result<(), Fault> {
    match item {
        Item::None => payload.push(NONE),
        Item::Bool(value) => payload.extend([BOOL, u8::from(value)]),
        Item::Int(value) => tagged(INT, &value.to_be_bytes(), payload),
        Item::Float(value) => tagged(FLOAT, &value.to_be_bytes(), payload),
        Item::Bytes(value) => counted(BYTES, value, payload)?,
        Item::Text(value) => counted(TEXT, value.as_bytes(), payload)?,
        Item::List(count) => container(LIST, count, payload)?,
        Item::Map(count) => container(MAP, count, payload)?,
    }
    Ok(())
}

fn tagged(tag: u8, bytes: &[u8], payload: &mut Vec<u8>) {
    payload.push(tag);
    payload.extend_from_slice(bytes);
}

fn counted(tag: u8, bytes: &[u8], payload: &mut Vec<u8>) -> Result<(), Fault> {
    let length = u32::try_from(bytes.len()).map_err(|_| Fault::TooLong(bytes.len()))?;
    if bytes.len() > super::PAYLOAD_MAX {
        return Err(Fault::TooLong(bytes.len()));
    }
    tagged(tag, &length.to_be_bytes(), payload);
    payload.extend_from_slice(bytes);
    Ok(())
}

fn container(tag: u8, count: usize, payload: &mut Vec<u8>) -> Result<(), Fault> {
    let number = u32::try_from(count).map_err(|_| Fault::TooMany(count))?;
    if count > ITEMS_MAX {
        return Err(Fault::TooMany(count));
    }
    tagged(tag, &number.to_be_bytes(), payload);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `TLVEncoder.encode({"a": [-2, 1.5, None, {}], "ü": (True, b"x\0", [])})` of Gunicorn 27.0.1.
    const GUNICORNS: &[u8] =
        b"\x21\x00\x00\x00\x02\x11\x00\x00\x00\x01\x61\x20\x00\x00\x00\x04\x05\xff\xff\xff\
        \xff\xff\xff\xff\xfe\x06\x3f\xf8\x00\x00\x00\x00\x00\x00\x00\x21\x00\x00\x00\x00\
        \x11\x00\x00\x00\x02\xc3\xbc\x20\x00\x00\x00\x03\x01\x01\x10\x00\x00\x00\x02\x78\
        \x00\x20\x00\x00\x00\x00";

    fn items(payload: &[u8]) -> Result<Vec<Item<'_>>, Fault> {
        let mut reader = Reader::new(payload);
        let mut all = Vec::new();
        while let Some(item) = reader.next_item()? {
            all.push(item);
        }
        Ok(all)
    }

    const ITEMS: &[Item<'_>] = &[
        Item::Map(2),
        Item::Text("a"),
        Item::List(4),
        Item::Int(-2),
        Item::Float(1.5),
        Item::None,
        Item::Map(0),
        Item::Text("ü"),
        Item::List(3),
        Item::Bool(true),
        Item::Bytes(b"x\0"),
        Item::List(0),
    ];

    #[test]
    fn is_gunicorns_encoding() {
        assert_eq!(items(GUNICORNS).as_deref(), Ok(ITEMS));
        let mut payload = Vec::new();
        for &item in ITEMS {
            write(item, &mut payload).expect("all are within the bounds");
        }
        assert_eq!(payload, GUNICORNS);
    }

    #[test]
    fn a_payload_cut_anywhere_is_a_fault() {
        for end in 0..GUNICORNS.len() {
            assert_eq!(items(&GUNICORNS[..end]), Err(Fault::Truncated), "{end}");
        }
    }

    #[test]
    fn any_byte_changed_is_read_without_a_panic() {
        for place in 0..GUNICORNS.len() {
            for byte in 0..=u8::MAX {
                let mut payload = GUNICORNS.to_vec();
                payload[place] = byte;
                let read = items(&payload);
                assert!(read.map_or(0, |items| items.len()) <= payload.len());
            }
        }
    }

    #[test]
    fn bounds_hold_and_are_named() {
        let nested = |depth: usize| b"\x20\0\0\0\x01".repeat(depth - 1);
        let with_end = |depth| [nested(depth), b"\x20\0\0\0\0".to_vec()].concat();
        assert_eq!(
            items(&with_end(DEPTH_MAX)).map(|all| all.len()),
            Ok(DEPTH_MAX)
        );
        assert_eq!(items(&with_end(DEPTH_MAX + 1)), Err(Fault::TooDeep));
        assert_eq!(
            items(b"\x20\0\x10\0\x01"),
            Err(Fault::TooMany(ITEMS_MAX + 1))
        );
        assert_eq!(items(b"\x21\0\0\0\x01\0\0"), Err(Fault::Key));
        assert_eq!(items(b"\x11\0\0\0\x01\xff"), Err(Fault::Utf8));
        assert_eq!(items(b"\x02"), Err(Fault::Tag(2)));
        assert_eq!(items(b"\0\0"), Err(Fault::Trailing));
        assert_eq!(
            write(Item::Map(ITEMS_MAX + 1), &mut Vec::new()),
            Err(Fault::TooMany(ITEMS_MAX + 1))
        );
    }
}
