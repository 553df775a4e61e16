//! What workers wait for, as all of them count it: it outlives each of them.

use std::time::Duration;

use oxicorn_os::mapping::Mapping;

use super::histogram::{self, HistogramReading};
use crate::wire_enum::wire_enum;

/// Bytes of all of them.
pub(super) const LEN: usize = WaitKind::ALL.len() * histogram::LEN;

wire_enum! {
    /// What a worker can wait for.
    WaitKind {
        /// A thread that a request has woken, for the interpreter.
        Interpreter = 0,
        /// An event loop that is called, for what it does to come to an end.
        Loop = 1,
    }
}

fn place(at: usize, kind: WaitKind) -> usize {
    at + usize::from(kind.as_u8()) * histogram::LEN
}

pub(super) fn record(mapping: &Mapping, at: usize, kind: WaitKind, duration: Duration) {
    histogram::record_with_others(mapping, place(at, kind), duration);
}

pub(super) fn read(mapping: &Mapping, at: usize, kind: WaitKind) -> HistogramReading {
    histogram::read_all(mapping, place(at, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::Scoreboard;

    #[test]
    fn waits_of_all_workers_are_counted_and_outlive_them() {
        let (board, _file) = Scoreboard::create(2, 1).unwrap();
        let slots = [board.slot(0).unwrap(), board.slot(1).unwrap()];
        std::thread::scope(|scope| {
            for slot in &slots {
                scope.spawn(|| {
                    slot.assign(1, 1, 1, Duration::ZERO);
                    for _ in 0..10_000 {
                        slot.record_wait(WaitKind::Interpreter, Duration::from_micros(3));
                    }
                });
            }
        });
        slots[0].record_wait(WaitKind::Loop, Duration::MAX);
        for slot in &slots {
            slot.clear();
        }
        let interpreter = board.waits(WaitKind::Interpreter);
        assert_eq!(
            (interpreter.count(), interpreter.sum_micros),
            (20_000, 60_000)
        );
        assert_eq!(board.waits(WaitKind::Loop).count(), 1);
        assert_eq!(board.workers().count(), 0, "they touch nothing else");
    }
}
