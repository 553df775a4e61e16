//! What a client may make a server do without asking for anything: each has a bound.
//!
//! Counted in spans of [`SPAN`]; the limits are Gunicorn's where it has one.

use std::fmt;
use std::time::Duration;

use super::frames::{Frame, FrameKind};

/// How long is counted before counting begins anew.
pub const SPAN: Duration = Duration::from_secs(10);

/// Streams a client may reset in a span (rapid reset, CVE-2023-44487).
pub const RESETS: u32 = 200;

/// PING, SETTINGS, PRIORITY and unknown frames, and those of DATA and HEADERS without a byte, in a span.
pub const CONTROL_FRAMES: u32 = 1000;

/// Streams whose request breaks the protocol so that it is not even answered, in a span.
pub const MALFORMED: u32 = 1000;

/// CONTINUATION frames of one head (CVE-2024-27316), beside one for each [`FRAME`] of the header list that is permitted.
pub const CONTINUATIONS: u32 = 32;

/// Bytes of a frame that every client may send (RFC 9113 section 4.2).
const FRAME: u32 = 16 * 1024;

/// `WINDOW_UPDATE` frames in a span, beside two for each frame of a body that it was sent.
pub const WINDOW_UPDATES: u32 = 10_000;

/// A bound that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// [`RESETS`]
    Resets,
    /// [`MALFORMED`]
    Malformed,
    /// [`CONTINUATIONS`]
    Continuations,
    /// [`CONTROL_FRAMES`]
    Control,
    /// [`WINDOW_UPDATES`]
    WindowUpdates,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, what) = match self {
            Self::Continuations => return f.write_str("too many CONTINUATION frames in a head"),
            Self::Resets => (RESETS, "streams reset"),
            Self::Malformed => (MALFORMED, "malformed requests"),
            Self::Control => (CONTROL_FRAMES, "frames that ask for nothing"),
            Self::WindowUpdates => (WINDOW_UPDATES, "updates of windows"),
        };
        let seconds = SPAN.as_secs();
        write!(f, "more than {limit} {what} in {seconds} seconds")
    }
}

/// What one connection has made of its span.
#[derive(Clone, Copy, Debug, Default)]
pub struct FloodCounts {
    began: Duration,
    resets: u32,
    malformed: u32,
    /// Of the head that is under way, and how many it may have.
    continuations: u32,
    most_continuations: u32,
    control: u32,
    updates: u32,
    sent: u32,
}

impl FloodCounts {
    /// `list_size`: bytes of a header list that are permitted; 0: nothing was said.
    pub fn new(list_size: u32) -> Self {
        Self {
            most_continuations: CONTINUATIONS + list_size / FRAME,
            ..Self::default()
        }
    }

    /// The peer has sent a frame.
    pub fn received(&mut self, frame: &Frame) {
        let is_empty = frame.length == 0 && !frame.has_first_flag();
        self.count_continuations(frame.kind);
        match frame.kind {
            FrameKind::Reset => self.resets += 1,
            FrameKind::WindowUpdate => self.updates += 1,
            FrameKind::Settings | FrameKind::Ping if frame.has_first_flag() => {}
            FrameKind::Settings | FrameKind::Ping | FrameKind::Priority | FrameKind::Other => {
                self.control += 1;
            }
            FrameKind::Data | FrameKind::Headers | FrameKind::Continuation if is_empty => {
                self.control += 1;
            }
            _ => {}
        }
    }

    /// Nothing comes between the frames of a head, so that what is no CONTINUATION begins anew. One bound that was
    /// passed stays so until it was looked at.
    fn count_continuations(&mut self, kind: FrameKind) {
        if kind == FrameKind::Continuation {
            self.continuations += 1;
        } else if self.continuations <= self.most_continuations {
            self.continuations = 0;
        }
    }

    /// It was sent one.
    pub fn sent(&mut self, frame: &Frame) {
        self.sent += u32::from(frame.kind == FrameKind::Data);
    }

    /// One of its streams was reset because of what came on it.
    pub fn malformed(&mut self) {
        self.malformed += 1;
    }

    /// The bound that was passed, if one was.
    pub fn passed(&self) -> Option<Flood> {
        if self.resets > RESETS {
            Some(Flood::Resets)
        } else if self.malformed > MALFORMED {
            Some(Flood::Malformed)
        } else if self.continuations > self.most_continuations {
            Some(Flood::Continuations)
        } else if self.control > CONTROL_FRAMES {
            Some(Flood::Control)
        } else if self.updates > WINDOW_UPDATES.saturating_add(self.sent.saturating_mul(2)) {
            Some(Flood::WindowUpdates)
        } else {
            None
        }
    }

    /// The same, and a span that is over is followed by another.
    pub fn judge(&mut self, now: Duration) -> Option<Flood> {
        let flood = self.passed();
        if flood.is_none() && now >= self.began + SPAN {
            *self = Self {
                began: now,
                continuations: self.continuations,
                most_continuations: self.most_continuations,
                ..Self::default()
            };
        }
        flood
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: FrameKind, length: usize, flags: u8) -> Frame {
        Frame {
            kind,
            length,
            flags,
            stream: 1,
            code: 0,
        }
    }

    fn after(count: u32, frame: &Frame) -> Option<Flood> {
        let mut counts = FloodCounts::new(0);
        for _ in 0..count {
            counts.received(frame);
        }
        counts.judge(Duration::from_secs(1))
    }

    #[test]
    fn each_kind_has_a_bound() {
        for (what, limit, flood) in [
            (frame(FrameKind::Reset, 4, 0), RESETS, Flood::Resets),
            (frame(FrameKind::Ping, 8, 0), CONTROL_FRAMES, Flood::Control),
            (
                frame(FrameKind::Settings, 0, 0),
                CONTROL_FRAMES,
                Flood::Control,
            ),
            (
                frame(FrameKind::Priority, 5, 0),
                CONTROL_FRAMES,
                Flood::Control,
            ),
            (frame(FrameKind::Data, 0, 0), CONTROL_FRAMES, Flood::Control),
            (
                frame(FrameKind::Other, 9, 0),
                CONTROL_FRAMES,
                Flood::Control,
            ),
            (
                frame(FrameKind::Continuation, 9, 0),
                CONTINUATIONS,
                Flood::Continuations,
            ),
            (
                frame(FrameKind::WindowUpdate, 4, 0),
                WINDOW_UPDATES,
                Flood::WindowUpdates,
            ),
        ] {
            assert_eq!(after(limit, &what), None, "{what:?}");
            assert_eq!(after(limit + 1, &what), Some(flood), "{what:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_not_counted() {
        for harmless in [
            frame(FrameKind::Data, 1, 0),
            frame(FrameKind::Data, 0, 1),
            frame(FrameKind::Headers, 20, 4),
            frame(FrameKind::Settings, 0, 1),
            frame(FrameKind::Ping, 8, 1),
        ] {
            assert_eq!(after(100_000, &harmless), None, "{harmless:?}");
        }
    }

    #[test]
    fn each_head_may_have_so_many_pieces() {
        let mut counts = FloodCounts::new(0);
        for _ in 0..100 {
            counts.received(&frame(FrameKind::Headers, 9, 0));
            for _ in 0..CONTINUATIONS {
                counts.received(&frame(FrameKind::Continuation, 9, 0));
            }
        }
        assert_eq!(counts.judge(SPAN), None);
        counts.received(&frame(FrameKind::Continuation, 9, 4));
        counts.received(&frame(FrameKind::Headers, 9, 4));
        assert_eq!(
            counts.judge(SPAN),
            Some(Flood::Continuations),
            "though the head is over, and the span"
        );
    }

    #[test]
    fn long_heads_may_have_more_pieces() {
        let mut counts = FloodCounts::new(1 << 20);
        for _ in 0..CONTINUATIONS + 64 {
            counts.received(&frame(FrameKind::Continuation, 9, 0));
        }
        assert_eq!(counts.passed(), None);
        counts.received(&frame(FrameKind::Continuation, 9, 0));
        assert_eq!(counts.passed(), Some(Flood::Continuations));
    }

    #[test]
    fn malformed_requests_have_a_bound() {
        let mut counts = FloodCounts::new(0);
        for _ in 0..MALFORMED {
            counts.malformed();
        }
        assert_eq!(counts.passed(), None);
        counts.malformed();
        assert_eq!(counts.judge(Duration::ZERO), Some(Flood::Malformed));
    }

    #[test]
    fn a_span_is_followed_by_another() {
        let mut counts = FloodCounts::new(0);
        let reset = frame(FrameKind::Reset, 4, 0);
        for second in 0..100 {
            for _ in 0..RESETS / 20 {
                counts.received(&reset);
            }
            assert_eq!(counts.judge(Duration::from_secs(second)), None);
        }
    }

    #[test]
    fn who_is_sent_much_may_update_much() {
        let mut counts = FloodCounts::new(0);
        for _ in 0..3 * WINDOW_UPDATES {
            counts.sent(&frame(FrameKind::Data, 100, 0));
            counts.received(&frame(FrameKind::WindowUpdate, 4, 0));
        }
        assert_eq!(counts.judge(Duration::ZERO), None);
    }
}
