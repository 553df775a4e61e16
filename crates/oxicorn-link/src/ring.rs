//! A byte ring with one producer and one consumer, each of which may be another process.
//!
//! # What lies in it
//! Messages, one behind the other, each at a multiple of eight and never across the ring's end:
//!
//! ```text
//!   0        4      5      6        8                16                24
//!   | length | kind | flags| 0      | stream         | claim word      | payload ... | to eight
//! ```
//!
//! What does not fit before the end goes to the beginning, and the rest is padding: its first eight
//! bytes have the kind [`PADDING`]. A message is at most half the ring, so an empty ring takes any.
//!
//! A producer that finds everything read goes back to the beginning, too. So a ring that is large for the sake
//! of long messages and of bad times costs, as long as its ends keep up with each other, no more memory and no
//! more of the processor's caches than a small one. What is passed over is room again only when the consumer
//! has read on, so it is not done before what lies behind is room for many such messages as come.
//!
//! # Who owns what
//! `tail` is where the producer goes on, `head` where the consumer does; both count bytes since the
//! beginning. Bytes from `head` to `tail` are the consumer's, the others the producer's. Each end
//! keeps its own index and a copy of the other's, which it refreshes only when the copy does not
//! suffice: in the ordinary case a message costs each end one store that the other will see.
//!
//! # What is believed
//! Nothing. An index from the memory is only used if it can be; lengths are checked against what
//! was published and against the ring. The worst that nonsense can do is to be reported as
//! [`LinkFault`], to be taken for a message, or to keep a producer waiting.
//!
//! # Claims
//! A message that may be taken back carries a claim word, changed only by compare-and-swap from
//! "placed": by the consumer to "claimed" when it reads it, by the producer to "revoked". Its other
//! half is the epoch, so that no message of another gateway can be mistaken for ours. The word is
//! asked only while the message still lies there: the producer knows without asking that the
//! consumer has passed it once it has itself written over it.

use std::ops::Range;

use crate::sync::{AtomicU64, Ordering};

/// Bytes before the payload.
pub const HEADER_LEN: usize = 24;

/// Kind of what fills the ring up to its end.
pub const PADDING: u8 = u8::MAX;

/// Room that going back leaves beside the message: for so many as long as the longest of late, as requests may
/// be ahead of a worker at a time,
const MESSAGES_KEPT: u64 = 64;
/// but at least this part of the ring (many short ones may make one answer),
const LEAST_PART_KEPT: u64 = 16;
/// and at most this part of it, and a piece of a long response.
const MOST_PART_KEPT: u64 = 2;
const MOST_KEPT: u64 = 513 << 10;

/// How far, on average, a producer writes on before it looks again whether everything was read: the index it
/// looks at is dear as long as the consumer moves it. (Messages that come together are read together, so only
/// a look at the first of them finds everything read: a producer that seldom looks seldom finds that.)
const LOOK_EVERY: u64 = 1 << 10;

const ALIGNMENT: u64 = 8;
const STREAM_AT: usize = 8;
const CLAIM_AT: usize = 16;

/// No index of a sane ring gets there: a century of 1 GB/s.
const HIGHEST_INDEX: u64 = 1 << 62;

/// What the other end wrote into the shared memory cannot be. The link is of no use any more; the
/// worker behind it must be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// A ring index runs backwards or ahead of what the ring can hold.
    Index,
    /// A message does not lie within what was published, or goes over the ring's end.
    MessageLength,
    /// A message of a kind that does not exist.
    Kind,
}

impl std::fmt::Display for LinkFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Index => "impossible ring index",
            Self::MessageLength => "impossible message length",
            Self::Kind => "unknown message kind",
        })
    }
}

impl std::error::Error for LinkFault {}

/// A message was not put into a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFull {
    /// There is no room now; there will be when the other end has read on.
    NoRoomYet,
    /// There will never be: a message is at most half a ring.
    MessageTooLong,
}

impl std::fmt::Display for RingFull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoRoomYet => "no room in the ring",
            Self::MessageTooLong => "message longer than half the ring",
        })
    }
}

impl std::error::Error for RingFull {}

/// The memory of one ring: shared memory, or loom's model of it.
///
/// Offsets are within the ring and, but for `write` and `read`, multiples of eight; implementations
/// panic rather than reach beyond the ring.
pub trait Memory {
    /// Bytes of the ring: a power of two.
    fn capacity(&self) -> u64;
    /// The producer's index.
    fn tail(&self) -> &AtomicU64;
    /// The consumer's index.
    fn head(&self) -> &AtomicU64;
    /// The claim word at an offset.
    fn claim(&self, offset: usize) -> &AtomicU64;
    /// Eight bytes of a header, native order.
    fn word(&self, offset: usize) -> u64;
    /// Writes eight bytes of a header.
    fn set_word(&self, offset: usize, word: u64);
    /// Writes payload. Only ever called for bytes that are the producer's.
    fn write(&self, offset: usize, bytes: &[u8]);
    /// Appends payload to `out`. Only ever called for bytes that are the consumer's.
    fn read(&self, offset: usize, len: usize, out: &mut Vec<u8>);
}

/// What a message says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What it is; not [`PADDING`].
    pub kind: u8,
    /// Meaning depends on the kind.
    pub flags: u8,
    /// Whose it is.
    pub stream: u64,
}

/// Half of a claim word; the other half is the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Claim {
    Placed = 1,
    Claimed = 2,
    Revoked = 3,
}

impl Claim {
    fn word(self, epoch: u32) -> u64 {
        u64::from(epoch) << 32 | self as u64
    }
}

/// Ring offset of an index. (`usize` has 64 bits wherever this runs: a ring is mapped memory.)
#[expect(
    clippy::cast_possible_truncation,
    reason = "masked to less than the capacity"
)]
fn offset(index: u64, capacity: u64) -> usize {
    (index & (capacity - 1)) as usize
}

/// Bytes a message with this payload takes.
fn message_size(len: usize) -> u64 {
    ((HEADER_LEN + len) as u64).next_multiple_of(ALIGNMENT)
}

/// Longest payload for a ring of this capacity.
pub const fn max_payload(capacity: u64) -> usize {
    (capacity / 2) as usize - HEADER_LEN
}

/// Both indices, if they can be those of a ring: where a new end goes on.
fn sane_indices<M: Memory>(memory: &M) -> Result<(u64, u64), LinkFault> {
    let head = memory.head().load(Ordering::Acquire);
    let tail = memory.tail().load(Ordering::Acquire);
    let possible = tail < HIGHEST_INDEX
        && head <= tail
        && tail - head <= memory.capacity()
        && head.is_multiple_of(ALIGNMENT)
        && tail.is_multiple_of(ALIGNMENT);
    if possible {
        Ok((head, tail))
    } else {
        Err(LinkFault::Index)
    }
}

/// Where a message of `size` bytes would end that is written at `tail`, and the padding before it.
#[inline]
fn place(tail: u64, size: u64, capacity: u64) -> (u64, u64) {
    let to_end = capacity - (tail & (capacity - 1));
    let padding = if size <= to_end { 0 } else { to_end };
    (padding, tail + padding + size)
}

/// Room that going back leaves beside a message where the longest of late took `longest` bytes: in any case for
/// one like that, which may be half the ring.
#[inline]
fn room_kept(longest: u64, capacity: u64) -> u64 {
    let most = (capacity / MOST_PART_KEPT).min(MOST_KEPT);
    (MESSAGES_KEPT * longest)
        .clamp(capacity / LEAST_PART_KEPT, most)
        .max(longest)
}

/// How far to write on before the next look: uneven, since messages that come in twos or threes would else be looked
/// at in the middle each time.
#[inline]
fn until_next_look(tail: u64) -> u64 {
    // The upper bits of a product with 2^64 divided by the golden ratio, which is what hashes are made of.
    let scattered = tail.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    LOOK_EVERY / 2 + scattered % LOOK_EVERY
}

/// Whether a producer that shares this memory would find room for a payload of this length now, or
/// would find that it is too long: whether there is a reason not to wait.
pub fn has_room<M: Memory>(memory: &M, len: usize) -> bool {
    let capacity = memory.capacity();
    if len > max_payload(capacity) {
        return true;
    }
    let head = memory.head().load(Ordering::Acquire);
    let tail = memory.tail().load(Ordering::Acquire);
    let (_, end) = place(tail & (HIGHEST_INDEX - 1), message_size(len), capacity);
    head <= end && end - head <= capacity
}

/// The writing end.
#[derive(Debug)]
pub struct Producer<M> {
    memory: M,
    tail: u64,
    /// Copy of the consumer's index, perhaps old.
    head: u64,
    /// From which index on a copy that is too old for going back is renewed.
    look_from: u64,
    /// The longest message since the last time at the beginning, and between that and the time before.
    longest: u64,
    longest_before: u64,
    /// Room that going back leaves, as follows from these.
    kept: u64,
}

impl<M: Memory> Producer<M> {
    /// Goes on where the memory says.
    pub fn resume(memory: M) -> Result<Self, LinkFault> {
        let (head, tail) = sane_indices(&memory)?;
        let kept = room_kept(0, memory.capacity());
        Ok(Self {
            memory,
            tail,
            head,
            look_from: 0,
            longest: 0,
            longest_before: 0,
            kept,
        })
    }

    /// The memory it writes to.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Longest payload.
    pub fn max_payload(&self) -> usize {
        max_payload(self.memory.capacity())
    }

    /// Publishes a message whose payload is `head` and then `body`. Returns its position.
    #[inline]
    pub fn push(&mut self, tag: Tag, head: &[u8], body: &[u8]) -> Result<u64, RingFull> {
        self.push_with(tag, 0, head, body)
    }

    /// [`push`](Self::push) of a message that may be taken back with
    /// [`revoke`](Self::revoke) and its position.
    #[inline]
    pub fn push_claimable(
        &mut self,
        tag: Tag,
        epoch: u32,
        head: &[u8],
        body: &[u8],
    ) -> Result<u64, RingFull> {
        self.push_with(tag, Claim::Placed.word(epoch), head, body)
    }

    #[inline]
    fn push_with(
        &mut self,
        tag: Tag,
        claim: u64,
        head: &[u8],
        body: &[u8],
    ) -> Result<u64, RingFull> {
        let len = head.len() + body.len();
        if len > self.max_payload() {
            return Err(RingFull::MessageTooLong);
        }
        let size = message_size(len);
        let position = self.reserve(size)?;
        let at = offset(position, self.memory.capacity());
        let lengths = len as u64 | u64::from(tag.kind) << 32 | u64::from(tag.flags) << 40;
        self.memory.set_word(at, lengths);
        self.memory.set_word(at + STREAM_AT, tag.stream);
        self.memory
            .claim(at + CLAIM_AT)
            .store(claim, Ordering::Relaxed);
        self.memory.write(at + HEADER_LEN, head);
        if !body.is_empty() {
            self.memory.write(at + HEADER_LEN + head.len(), body);
        }
        // Release: whoever sees the new tail sees the message.
        self.tail = position + size;
        self.memory.tail().store(self.tail, Ordering::Release);
        Ok(position)
    }

    /// Finds room for `size` bytes in one piece, padding the rest of the ring if need be (nobody
    /// sees that before the message behind it is published).
    #[inline]
    fn reserve(&mut self, size: u64) -> Result<u64, RingFull> {
        let capacity = self.memory.capacity();
        let (mut padding, mut end) = place(self.tail, size, capacity);
        if padding == 0 && self.may_go_back(size) {
            padding = capacity - (self.tail & (capacity - 1));
            end = self.tail + padding + size;
        }
        if end - self.head > capacity {
            self.refresh_head();
            if end - self.head > capacity {
                return Err(RingFull::NoRoomYet);
            }
        }
        if padding > 0 {
            let at = offset(self.tail, capacity);
            self.memory.set_word(at, u64::from(PADDING) << 32);
            self.longest_before = std::mem::take(&mut self.longest);
        }
        if size > self.longest {
            self.longest = size;
            self.kept = room_kept(size.max(self.longest_before), capacity);
        }
        Ok(self.tail + padding)
    }

    /// Whether everything was read and what lies behind has room for a message of `size` bytes and more.
    #[inline]
    fn may_go_back(&mut self, size: u64) -> bool {
        let capacity = self.memory.capacity();
        let behind = self.tail & (capacity - 1);
        if behind < size + self.kept {
            return false;
        }
        self.finds_all_read()
    }

    // Apart, since most messages are not so far from the beginning.
    #[cold]
    fn finds_all_read(&mut self) -> bool {
        if self.head != self.tail && self.tail >= self.look_from {
            self.look_from = self.tail + until_next_look(self.tail);
            self.refresh_head();
        }
        self.head == self.tail
    }

    /// An index that cannot be frees nothing: the copy stays as it was.
    fn refresh_head(&mut self) {
        // Acquire: the consumer has finished reading what it passed.
        let head = self.memory.head().load(Ordering::Acquire);
        if (self.head..=self.tail).contains(&head) {
            self.head = head;
        }
    }

    /// Takes a claimable message back. `false`: the consumer has it.
    pub fn revoke(&self, position: u64, epoch: u32) -> bool {
        self.claim_word(position).is_some_and(|word| {
            let (placed, revoked) = (Claim::Placed.word(epoch), Claim::Revoked.word(epoch));
            word.compare_exchange(placed, revoked, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        })
    }

    /// Whether the consumer has taken a claimable message (or we have taken it back).
    pub fn is_claimed(&self, position: u64, epoch: u32) -> bool {
        self.claim_word(position)
            .is_none_or(|word| word.load(Ordering::Relaxed) != Claim::Placed.word(epoch))
    }

    /// The claim word of a message, unless something was written over it since: which happens only
    /// after the consumer has passed it.
    fn claim_word(&self, position: u64) -> Option<&AtomicU64> {
        let capacity = self.memory.capacity();
        (self.tail.wrapping_sub(position) <= capacity)
            .then(|| self.memory.claim(offset(position, capacity) + CLAIM_AT))
    }
}

/// A message the consumer is looking at: checked to lie within the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it says about itself.
    pub tag: Tag,
    /// Bytes of payload.
    pub len: usize,
    position: u64,
}

/// The reading end.
#[derive(Debug)]
pub struct Consumer<M> {
    memory: M,
    head: u64,
    /// Copy of the producer's index, perhaps old.
    tail: u64,
    /// What [`peek`](Self::peek) found: it must not change under the reader's eyes.
    current: Option<Message>,
    fault: Option<LinkFault>,
}

impl<M: Memory> Consumer<M> {
    /// Goes on where the memory says.
    pub fn resume(memory: M) -> Result<Self, LinkFault> {
        let (head, tail) = sane_indices(&memory)?;
        Ok(Self {
            memory,
            head,
            tail,
            current: None,
            fault: None,
        })
    }

    /// The memory it reads from.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// The first fault that was found: nothing is read after one.
    pub fn fault(&self) -> Option<LinkFault> {
        self.fault
    }

    /// Remembers a fault that the reader found in a message.
    pub fn condemn(&mut self, fault: LinkFault) -> LinkFault {
        *self.fault.get_or_insert(fault)
    }

    /// Whether there is something to read. Of a faulty ring there is not.
    #[inline]
    pub fn has_pending(&self) -> bool {
        self.fault.is_none() && self.memory.tail().load(Ordering::Acquire) != self.head
    }

    /// The next message: the same one until [`advance`](Self::advance).
    #[inline]
    pub fn peek(&mut self) -> Result<Option<&Message>, LinkFault> {
        if self.current.is_none() {
            if let Some(fault) = self.fault {
                return Err(fault);
            }
            self.find_message().map_err(|fault| self.condemn(fault))?;
        }
        Ok(self.current.as_ref())
    }

    /// Sets `current`, if there is a message.
    // Apart: so little is handed over that `peek` itself costs its caller next to nothing.
    #[inline(never)]
    fn find_message(&mut self) -> Result<(), LinkFault> {
        let capacity = self.memory.capacity();
        loop {
            let available = self.available()?;
            if available == 0 {
                return Ok(());
            }
            let at = offset(self.head, capacity);
            let to_end = capacity - at as u64;
            let [l0, l1, l2, l3, kind, flags, _, _] = self.memory.word(at).to_ne_bytes();
            let size = match kind {
                PADDING => to_end,
                _ => message_size(u32::from_ne_bytes([l0, l1, l2, l3]) as usize),
            };
            if size > available.min(to_end) {
                return Err(LinkFault::MessageLength);
            }
            if kind != PADDING {
                let stream = self.memory.word(at + STREAM_AT);
                let tag = Tag {
                    kind,
                    flags,
                    stream,
                };
                let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
                self.current = Some(Message {
                    tag,
                    len,
                    position: self.head,
                });
                return Ok(());
            }
            self.pass(size);
        }
    }

    /// Bytes that were published and not yet read.
    #[inline]
    fn available(&mut self) -> Result<u64, LinkFault> {
        if self.head == self.tail {
            // Acquire: what lies before the tail is complete.
            let tail = self.memory.tail().load(Ordering::Acquire);
            if tail.wrapping_sub(self.head) > self.memory.capacity() {
                return Err(LinkFault::Index);
            }
            self.tail = tail;
        }
        Ok(self.tail - self.head)
    }

    /// Takes a claimable message of this epoch. `false`: it was taken back, or is of another epoch;
    /// [`advance`](Self::advance) past it.
    #[inline]
    pub fn claim(&self, message: &Message, epoch: u32) -> bool {
        let at = offset(message.position, self.memory.capacity()) + CLAIM_AT;
        let (placed, claimed) = (Claim::Placed.word(epoch), Claim::Claimed.word(epoch));
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        self.memory
            .claim(at)
            .compare_exchange(placed, claimed, success, failure)
            .is_ok()
    }

    /// Appends a part of the current message's payload to `out`; what is beyond it is left out.
    #[inline]
    pub fn read(&self, range: Range<usize>, out: &mut Vec<u8>) {
        let place = self.locate(range);
        if !place.is_empty() {
            self.memory.read(place.start, place.len(), out);
        }
    }

    /// Where in the ring a part of the current message's payload lies, without what is beyond the
    /// payload: the consumer's until [`advance`](Self::advance).
    #[inline]
    pub fn locate(&self, range: Range<usize>) -> Range<usize> {
        let Some(message) = self.current else {
            return 0..0;
        };
        let at = offset(message.position, self.memory.capacity()) + HEADER_LEN;
        let end = range.end.min(message.len);
        at + range.start.min(end)..at + end
    }

    /// Gives the current message's room back to the producer. Returns the bytes.
    #[inline]
    pub fn advance(&mut self) -> u64 {
        let size = self
            .current
            .take()
            .map_or(0, |message| message_size(message.len));
        if size > 0 {
            self.pass(size);
        }
        size
    }

    #[inline]
    fn pass(&mut self, size: u64) {
        self.head += size;
        // Release: we have finished reading what we pass.
        self.memory.head().store(self.head, Ordering::Release);
    }
}
