//! What is asked of the stash, out of the fields of a frame.

use std::time::Duration;

use oxicorn_link::scoreboard::STASH_OPERATIONS;
use oxicorn_proto::pool::{Fields, Item, Reader, write};

use super::StashFault;

/// The operations in the order of their numbers, from 1 on.
macro_rules! operations {
    ($(#[$about:meta])* $($name:ident,)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Operation {
            $($name,)*
        }

        impl Operation {
            const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

operations! {
    /// Gunicorn's operations, and from 11 on oxicorn's.
    Put, Get, Delete, Keys, Clear, Info, Ensure, DeleteTable, Tables, Exists,
    Add, Replace, Increment, Touch, Pop, DeleteIf,
}

const _: () = assert!(
    Operation::ALL.len() == STASH_OPERATIONS.len(),
    "each operation is counted under a name"
);

impl Operation {
    fn from_number(number: i64) -> Option<Self> {
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        Self::ALL.get(place).copied()
    }
}

/// The bytes of `None`.
pub(super) const NONE: &[u8] = &[oxicorn_proto::pool::tag::NONE];

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request<'a> {
    pub(crate) operation: Operation,
    pub(crate) table: &'a str,
    /// As the bytes of its value; `None`: there is none, or it is Python's `None`.
    pub(crate) key: Option<&'a [u8]>,
    /// `None` is left out by Gunicorn's client.
    pub(crate) value: &'a [u8],
    pub(crate) expected: &'a [u8],
    pub(crate) pattern: Option<&'a str>,
    pub(crate) ttl: Option<Duration>,
}

impl<'a> Request<'a> {
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, StashFault> {
        let unreadable = |_| StashFault::Request("The request cannot be read");
        let mut operation = None;
        let mut request = Request {
            operation: Operation::Get,
            table: "",
            key: None,
            value: NONE,
            expected: NONE,
            pattern: None,
            ttl: None,
        };
        let mut fields = Fields::new(payload).map_err(unreadable)?;
        while let Some((name, value)) = fields.next_field().map_err(unreadable)? {
            match name {
                "key" => request.key = (value != NONE).then_some(value),
                "value" => request.value = value,
                "expected" => request.expected = value,
                _ => {
                    let item = Reader::new(value).next_item().map_err(unreadable)?;
                    match (name, item) {
                        ("op", Some(Item::Int(number))) => {
                            operation = Operation::from_number(number);
                        }
                        ("table", Some(Item::Text(table))) => request.table = table,
                        ("pattern", Some(Item::Text(pattern))) => request.pattern = Some(pattern),
                        ("ttl", Some(Item::Float(seconds))) => request.ttl = Some(ttl(seconds)?),
                        #[expect(clippy::cast_precision_loss, reason = "seconds of a life")]
                        ("ttl", Some(Item::Int(seconds))) => {
                            request.ttl = Some(ttl(seconds as f64)?);
                        }
                        ("pattern" | "ttl", Some(Item::None)) => {}
                        ("op" | "table" | "pattern" | "ttl", _) => {
                            return Err(StashFault::Request("A field is of the wrong type"));
                        }
                        _ => {}
                    }
                }
            }
        }
        request.operation = operation.ok_or(StashFault::Request("Unknown stash operation"))?;
        Ok(request)
    }

    pub(crate) fn key(&self) -> Result<&'a [u8], StashFault> {
        self.key.ok_or(StashFault::Request("A key cannot be None"))
    }
}

fn ttl(seconds: f64) -> Result<Duration, StashFault> {
    let ttl = Duration::try_from_secs_f64(seconds).ok();
    ttl.filter(|ttl| !ttl.is_zero())
        .ok_or(StashFault::Request("ttl must be seconds, more than 0"))
}

/// What a pattern is compared with: `str(key)`, for texts and numbers.
pub(super) fn shown(key: &[u8]) -> String {
    match Reader::new(key).next_item() {
        Ok(Some(Item::Text(text))) => text.to_owned(),
        Ok(Some(Item::Int(number))) => number.to_string(),
        Ok(Some(Item::Bool(flag))) => if flag { "True" } else { "False" }.to_owned(),
        _ => String::new(),
    }
}

/// A number that can be added to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        match Reader::new(value).next_item().ok()?? {
            Item::Int(number) => Some(Self::Int(number)),
            Item::Float(number) => Some(Self::Float(number)),
            _ => None,
        }
    }

    /// Two integers make one, if it has 64 bits.
    #[expect(clippy::cast_precision_loss, reason = "as Python adds a float")]
    pub(super) fn plus(self, other: Self) -> Option<Self> {
        Some(match (self, other) {
            (Self::Int(one), Self::Int(two)) => Self::Int(one.checked_add(two)?),
            (Self::Int(one), Self::Float(two)) | (Self::Float(two), Self::Int(one)) => {
                Self::Float(one as f64 + two)
            }
            (Self::Float(one), Self::Float(two)) => Self::Float(one + two),
        })
    }

    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let item = match self {
            Self::Int(number) => Item::Int(number),
            Self::Float(number) => Item::Float(number),
        };
        // A number has no bound that could be passed.
        let _ = write(item, &mut bytes);
        bytes
    }
}
