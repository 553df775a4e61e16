//! Whose a gauge's number is: a process, known by its number and when it was started.

use oxicorn_os::process;

/// A process. Its number alone would be another one's some day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its number.
    pub pid: i32,
    /// When it was started, in the kernel's ticks since the machine was (the lower half); 0: not known.
    pub(super) started: u32,
}

impl Owner {
    /// This process.
    pub fn this() -> Self {
        let pid = process::id();
        Self {
            pid,
            started: started(pid).unwrap_or(0),
        }
    }

    pub(super) const fn to_word(self) -> u64 {
        (self.pid.cast_unsigned() as u64) << 32 | self.started as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "two halves")]
    pub(super) const fn of_word(word: u64) -> Self {
        Self {
            pid: ((word >> 32) as u32).cast_signed(),
            started: word as u32,
        }
    }

    /// Whether it lives. One that has ended and was not waited for yet does not.
    pub(super) fn is_alive(self) -> bool {
        process::exists(self.pid)
            && match process::life(self.pid) {
                Some(life) => {
                    let same = self.started == 0 || self.started == lower(life.started);
                    !life.has_ended && same
                }
                // Where others' processes are not shown, that there is one of this number has to do.
                None => true,
            }
    }
}

fn started(pid: i32) -> Option<u32> {
    process::life(pid).map(|life| lower(life.started))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half tells processes apart"
)]
const fn lower(ticks: u64) -> u32 {
    ticks as u32
}
