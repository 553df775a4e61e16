//! An entry as words of shared memory.
//!
//! | word | holds |
//! |---|---|
//! | 0 | kind (bits above 32) and number of words |
//! | 1 | bytes of the table's name (bits above 32) and of the key |
//! | 2 | hash of table and key (bits above 32) and bytes of the value |
//! | 3 | when it ends, in nanoseconds of the monotonic clock; 0: never |
//! | 4.. | the table's name and the key, filled up with zeros to whole words, then the value, likewise |

use std::time::Duration;

/// Words before the name.
pub(super) const HEAD: usize = 4;
/// Bytes of a word.
pub(super) const WORD: usize = 8;
/// Most bytes of a value that is shown; a longer one is asked for.
pub(super) const VALUE_MAX: usize = 64 << 10;
/// Most bytes of a table's name and a key together.
pub(super) const NAME_MAX: usize = 4 << 10;

/// Who wrote a record, and whether the value is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// The broker shows what it has.
    Shown = 1,
    /// A caller put it; the broker may not know it yet.
    Put = 2,
    /// The broker has the value, which is too long to be shown.
    Elsewhere = 3,
}

impl Kind {
    fn from_number(number: u64) -> Option<Self> {
        [Self::Shown, Self::Put, Self::Elsewhere]
            .into_iter()
            .find(|kind| *kind as u64 == number)
    }
}

/// The first words of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    /// Words of the whole record.
    pub(super) words: usize,
    pub(super) table: usize,
    pub(super) key: usize,
    pub(super) hash: u32,
    pub(super) value: usize,
    pub(super) expires: u64,
}

impl Head {
    pub(super) fn new(kind: Kind, name: &Name, value: usize, expires: Option<Duration>) -> Self {
        let expires = expires.map_or(0, |end| u64::try_from(end.as_nanos()).unwrap_or(u64::MAX));
        Self {
            kind,
            words: HEAD + name.words.len() + words_of(value),
            table: name.table,
            key: name.key,
            hash: name.hash,
            value,
            expires,
        }
    }

    /// `None`: these words begin no record.
    pub(super) fn read(words: [u64; HEAD]) -> Option<Self> {
        let [first, lengths, content, expires] = words;
        let head = Self {
            kind: Kind::from_number(first >> 32)?,
            words: low(first),
            table: high(lengths),
            key: low(lengths),
            hash: upper(content),
            value: low(content),
            expires,
        };
        let name = head.table.checked_add(head.key)?;
        let fits = name <= NAME_MAX && head.value <= VALUE_MAX;
        (fits && head.words == HEAD + words_of(name) + words_of(head.value)).then_some(head)
    }

    pub(super) fn encode(&self) -> [u64; HEAD] {
        [
            (self.kind as u64) << 32 | self.words as u64,
            (self.table as u64) << 32 | self.key as u64,
            u64::from(self.hash) << 32 | self.value as u64,
            self.expires,
        ]
    }

    /// Where the value begins, from the record's first word on.
    pub(super) fn value_at(&self) -> usize {
        HEAD + words_of(self.table + self.key)
    }

    pub(super) fn has_ended(&self, now: u64) -> bool {
        self.expires != 0 && self.expires <= now
    }

    pub(super) fn expires(&self) -> Option<Duration> {
        (self.expires != 0).then(|| Duration::from_nanos(self.expires))
    }
}

/// Table and key as they are looked up.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) table: usize,
    pub(super) key: usize,
    pub(super) words: Vec<u64>,
    pub(super) hash: u32,
}

impl Name {
    /// `None`: they are too long to be shown.
    pub(super) fn new(table: &str, key: &[u8]) -> Option<Self> {
        let length = table.len() + key.len();
        if length > NAME_MAX {
            return None;
        }
        let mut words = Vec::with_capacity(words_of(length));
        let mut bytes = table.bytes().chain(key.iter().copied());
        let mut left = length;
        while left > 0 {
            let mut word = [0; WORD];
            for place in &mut word[..left.min(WORD)] {
                *place = bytes.next().unwrap_or(0);
            }
            words.push(u64::from_ne_bytes(word));
            left = left.saturating_sub(WORD);
        }
        let hash = hash(table.len() as u64, &words);
        Some(Self {
            table: table.len(),
            key: key.len(),
            words,
            hash,
        })
    }
}

/// A hash whose collisions only cost the direct way: how far a name is looked for is bounded.
fn hash(seed: u64, words: &[u64]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = words.iter().fold(seed, |hash, word| {
        (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR)
    });
    u32::try_from((mixed ^ mixed >> 29).wrapping_mul(FACTOR) >> 32).unwrap_or(0)
}

pub(super) const fn words_of(bytes: usize) -> usize {
    bytes.div_ceil(WORD)
}

/// Bytes as words, the last one filled up with zeros.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks(WORD).map(|chunk| {
        let mut word = [0; WORD];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    })
}

/// The lower half of a word.
#[expect(clippy::cast_possible_truncation, reason = "that is what is wanted")]
pub(super) const fn low(word: u64) -> usize {
    word as u32 as usize
}

fn high(word: u64) -> usize {
    upper(word) as usize
}

const fn upper(word: u64) -> u32 {
    (word >> 32) as u32
}
