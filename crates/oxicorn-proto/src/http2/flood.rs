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

/// `WINDOW_UPDATE` frames in a span, beside two for each frame of a body that it was sent.
pub const WINDOW_UPDATES: u32 = 10_000;

/// A bound that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// [`RESETS`]
    Resets,
    /// [`CONTROL_FRAMES`]
    Control,
    /// [`WINDOW_UPDATES`]
    WindowUpdates,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, what) = match self {
            Self::Resets => (RESETS, "streams reset"),
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
    control: u32,
    updates: u32,
    sent: u32,
}

impl FloodCounts {
    /// The peer has sent a frame.
    pub fn received(&mut self, frame: &Frame) {
        let is_empty = frame.length == 0 && !frame.has_first_flag();
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

    /// It was sent one.
    pub fn sent(&mut self, frame: &Frame) {
        self.sent += u32::from(frame.kind == FrameKind::Data);
    }

    /// The bound that was passed, if one was.
    pub fn judge(&mut self, now: Duration) -> Option<Flood> {
        let flood = if self.resets > RESETS {
            Some(Flood::Resets)
        } else if self.control > CONTROL_FRAMES {
            Some(Flood::Control)
        } else if self.updates > WINDOW_UPDATES.saturating_add(self.sent.saturating_mul(2)) {
            Some(Flood::WindowUpdates)
        } else {
            None
        };
        if flood.is_none() && now >= self.began + SPAN {
            *self = Self {
                began: now,
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
        let mut counts = FloodCounts::default();
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
    fn a_span_is_followed_by_another() {
        let mut counts = FloodCounts::default();
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
        let mut counts = FloodCounts::default();
        for _ in 0..3 * WINDOW_UPDATES {
            counts.sent(&frame(FrameKind::Data, 100, 0));
            counts.received(&frame(FrameKind::WindowUpdate, 4, 0));
        }
        assert_eq!(counts.judge(Duration::ZERO), None);
    }
}
