//! What the probes say: whether the server lives, takes requests, and has ever begun to.

/// What is known when a probe comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// A graceful stop has begun.
    pub(super) stopping: bool,
    /// Taken out of rotation (`oxicornctl drain`).
    pub(super) drained: bool,
    /// A generation of workers serves, or has served since the server was started.
    pub(super) started: bool,
    /// Workers of the generation that serves that can be given requests.
    pub(super) workers: u32,
    pub(super) queued: usize,
    /// More are answered with 503.
    pub(super) queue_limit: usize,
}

/// One of the three questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    Live,
    Ready,
    Started,
}

impl Probe {
    /// The probe of a path.
    pub(super) const fn of_path(path: &[u8]) -> Option<Self> {
        match path {
            b"/livez" => Some(Self::Live),
            b"/readyz" => Some(Self::Ready),
            b"/startupz" => Some(Self::Started),
            _ => None,
        }
    }

    /// The reasons against it; none: yes.
    pub(super) fn reasons(self, condition: &Condition) -> Vec<String> {
        match self {
            // Who answers lives. Busy or dead workers are no reason to restart the server: it sees to them itself.
            Self::Live => Vec::new(),
            Self::Ready => reasons_not_ready(condition),
            Self::Started if condition.started => Vec::new(),
            Self::Started => vec!["no worker has been ready yet".into()],
        }
    }
}

fn reasons_not_ready(condition: &Condition) -> Vec<String> {
    let mut reasons = Vec::new();
    if condition.stopping {
        reasons.push("the server is stopping".into());
    }
    if condition.drained {
        reasons.push("the server was taken out of rotation (oxicornctl undrain)".into());
    }
    if !condition.started {
        reasons.push("no worker has been ready yet".into());
    } else if condition.workers == 0 {
        reasons.push("no worker can take requests".into());
    }
    if condition.queued >= condition.queue_limit {
        let Condition {
            queued,
            queue_limit,
            ..
        } = condition;
        reasons.push(format!(
            "{queued} requests wait for a worker (queue_limit: {queue_limit})"
        ));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Condition = Condition {
        stopping: false,
        drained: false,
        started: true,
        workers: 2,
        queued: 3,
        queue_limit: 4,
    };

    #[test]
    fn ready_is_who_serves_has_room_and_is_not_about_to_stop() {
        assert!(Probe::Ready.reasons(&GOOD).is_empty());
        let bad = [
            (
                Condition {
                    stopping: true,
                    ..GOOD
                },
                "stopping",
            ),
            (
                Condition {
                    drained: true,
                    ..GOOD
                },
                "out of rotation",
            ),
            (Condition { workers: 0, ..GOOD }, "no worker can take"),
            (
                Condition {
                    started: false,
                    ..GOOD
                },
                "ready yet",
            ),
            (Condition { queued: 4, ..GOOD }, "queue_limit: 4"),
        ];
        for (condition, reason) in bad {
            let reasons = Probe::Ready.reasons(&condition);
            assert_eq!(reasons.len(), 1);
            assert!(reasons[0].contains(reason), "{reasons:?}");
        }
    }

    #[test]
    fn who_is_full_or_stopping_lives_and_has_started() {
        let bad = Condition {
            stopping: true,
            drained: true,
            started: true,
            workers: 0,
            queued: 4,
            queue_limit: 4,
        };
        assert_eq!(Probe::Ready.reasons(&bad).len(), 4);
        assert!(Probe::Live.reasons(&bad).is_empty());
        assert!(Probe::Started.reasons(&bad).is_empty());
        let booting = Condition {
            started: false,
            ..bad
        };
        assert!(Probe::Live.reasons(&booting).is_empty());
        assert!(!Probe::Started.reasons(&booting).is_empty());
    }
}
