//! What follows when something happens to an exchange.
//!
//! Pure: no clock, no socket, no worker. Everything that changes an exchange's stage is in this file, so
//! every (stage, event) can be walked (see the tests). The client's half and the worker's half touch each
//! other only by the effects named here.
//!
//! ```text
//!              body complete,          head of
//!              or ahead of it          the answer          the last of it
//!   Receiving -------------> Waiting -----------> Answering -----------> Flushing(after)
//!       ^                     | | |                                       ^    |
//!       +- the body is needed + | +-- accepted --> Talking -- hang up ----+    | everything has left
//!         first                 +-- all of the answer at once, or ours --------+    v
//!                                                                     next | Discarding | end | reset
//! ```
//!
//! What may happen at any stage (the client leaves, its worker dies, its time is over ...) is [`Happened`].

use std::time::Duration;

use oxicorn_link::wire::{AbortReason, CancelReason};
use oxicorn_proto::http1::Next;

use super::Exchange;
use crate::exchange::refusal::Refusal;

/// How often a request may be declined by workers before it is refused.
const DECLINES: u8 = 3;

/// What the access log says about a response that broke a rule.
const UNFIT: &str = "the response broke a rule";

/// What it says of a client that did not wait.
const CLIENT_LEFT_REASON: &str = "the client left";

/// Status in the access log of a request whose client left before there was one (nginx' number).
const CLIENT_LEFT: u16 = 499;

/// Status in the access log of a request whose socket went to the application.
const SWITCHED: u16 = 101;

/// What an exchange waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The rest of its body.
    #[default]
    Receiving,
    /// A worker; nothing of an answer has come.
    Waiting,
    /// The rest of the answer.
    Answering,
    /// Whoever says something next: the answer was that a WebSocket is spoken.
    Talking,
    /// The client, to take the rest of the response.
    Flushing(After),
    /// The rest of a body that nobody wants; the response has left.
    Discarding,
}

impl Stage {
    /// Whether a worker has it, or is to have it, and the answer is not complete.
    pub(crate) const fn is_served(self) -> bool {
        matches!(self, Self::Waiting | Self::Answering)
    }

    /// Whether the head of an answer has come, and the rest of it has not.
    pub(crate) const fn is_answered(self) -> bool {
        matches!(self, Self::Answering | Self::Talking)
    }

    pub(crate) const fn is_flushing(self) -> bool {
        matches!(self, Self::Flushing(_))
    }

    /// Whether it concerns the client what becomes of the worker's half.
    const fn awaits_worker(self) -> bool {
        match self {
            Self::Waiting | Self::Answering | Self::Talking | Self::Flushing(After::HandOver) => {
                true
            }
            Self::Receiving | Self::Flushing(_) | Self::Discarding => false,
        }
    }
}

/// What comes after a response is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request.
    KeepAlive,
    /// The next request, once the rest of this one's body is read.
    Discard,
    /// An orderly end.
    Close,
    /// An end the client must notice: the response is not complete.
    Cut,
    /// The worker gets the socket.
    HandOver,
}

impl From<Next> for After {
    fn from(next: Next) -> Self {
        match next {
            Next::KeepAlive => Self::KeepAlive,
            Next::Drain => Self::Discard,
            Next::Close(_) => Self::Close,
        }
    }
}

/// What can happen to an exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Happened {
    /// The request can go to a worker: it is complete, or goes ahead of its body.
    Ready,
    /// The worker that was chosen takes complete requests only, and this one is not.
    NeedsBody,
    /// The head of the answer came.
    Head,
    /// The application accepted a WebSocket.
    Accepted,
    /// The last of the answer came, or an answer of our own is encoded.
    Complete(After),
    /// The application wants the socket.
    Hijacked,
    /// Both sides of a WebSocket have said that it is over.
    HungUp,
    /// Everything that was to be sent has left.
    Written,
    /// There will be no answer of the application's: the request is at fault, or nobody can serve it.
    Refused(Refusal),
    /// The worker gave the response up.
    Aborted(AbortReason),
    /// The worker's answer broke a rule.
    Mistaken,
    /// The worker that had it is gone.
    WorkerLost,
    /// The worker took too long.
    Expired,
    /// The server ends, and no worker is left.
    Stopping,
    /// The client left, or was cut off because it does not read.
    ClientGone {
        /// What it has not taken of the response's body.
        unsent: u64,
        /// A worker works on the request and will write its line.
        logged: bool,
    },
}

/// What follows for the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum LogEffect {
    #[default]
    Nothing,
    /// The application, or its worker, failed.
    Failed(&'static str),
    /// The server's own doing.
    BrokenOff(&'static str),
}

/// What follows for the worker's half.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum CallEffect {
    #[default]
    Nothing,
    /// A call begins: the request is queued.
    Submit,
    /// The call is not this exchange's any more, and goes on as it is.
    Leave,
    /// The same; its worker is told that nobody waits.
    Cancel(CancelReason),
    /// It is taken out of the queue or the worker's ring, else its worker is told.
    Abandon(CancelReason),
}

/// What follows for the line in the access log and the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Conclusion {
    #[default]
    NotYet,
    /// The exchange is told of.
    Told,
    /// The same; its client left before there was an answer.
    Abandoned,
}

/// What follows for the client.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum ClientEffect {
    #[default]
    Nothing,
    /// The body is wanted.
    InviteBody,
    /// It gets an answer of our own.
    Reply(Refusal),
    /// The response ends before its end, so that it can see it; `fault`: because of what it sent.
    Cut { fault: Option<Refusal> },
    /// The next request.
    Next,
    /// The rest of the body is read and forgotten.
    Discard,
    /// The connection ends in order.
    End,
    /// It ends so that the client notices.
    Reset,
    /// It ends at once.
    Close,
    /// Its socket goes to the worker.
    HandOver,
}

/// What follows, by whom it concerns; to be carried out in this order.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub(crate) struct Follows {
    pub(crate) log: LogEffect,
    pub(crate) conclusion: Conclusion,
    pub(crate) call: CallEffect,
    pub(crate) client: ClientEffect,
}

impl Follows {
    fn call(call: CallEffect) -> Self {
        Self {
            call,
            ..Self::default()
        }
    }

    fn client(client: ClientEffect) -> Self {
        Self {
            client,
            ..Self::default()
        }
    }
}

impl Exchange {
    /// Something happened; what does not concern the exchange at its stage has no effect.
    pub(crate) fn on(&mut self, happened: Happened) -> Follows {
        match (happened, self.stage) {
            (Happened::Ready, Stage::Receiving) => self.submit(),
            (Happened::NeedsBody, Stage::Waiting) => {
                self.stage = Stage::Receiving;
                self.request.upload = None;
                self.request.whole = true;
                Follows {
                    call: CallEffect::Leave,
                    client: ClientEffect::InviteBody,
                    ..Follows::default()
                }
            }
            (Happened::Head, Stage::Waiting) => self.go_on(Stage::Answering),
            (Happened::Accepted, Stage::Waiting) => self.go_on(Stage::Talking),
            (Happened::Complete(after), _) => self.go_on(Stage::Flushing(after)),
            (Happened::Hijacked, Stage::Waiting) => self.go_on(Stage::Flushing(After::HandOver)),
            (Happened::HungUp, Stage::Talking) => {
                self.stage = Stage::Flushing(After::Close);
                Follows::call(CallEffect::Abandon(CancelReason::ClientGone))
            }
            (Happened::Written, Stage::Flushing(after)) => self.conclude(after),
            (Happened::Refused(refusal), stage) => self.refuse(refusal, stage),
            (Happened::Aborted(reason), stage) if stage.awaits_worker() => self.give_up(reason),
            (Happened::Mistaken, stage) if stage.awaits_worker() => Follows {
                call: CallEffect::Cancel(CancelReason::WorkerFault),
                ..self.fail(Refusal::APPLICATION_FAILED, UNFIT, stage)
            },
            (Happened::WorkerLost, stage) if stage.awaits_worker() => Follows {
                call: CallEffect::Leave,
                ..self.lose(Refusal::WORKER_LOST, stage)
            },
            (Happened::Expired, stage) if stage.awaits_worker() => Follows {
                call: CallEffect::Cancel(CancelReason::Expired),
                ..self.lose(Refusal::EXPIRED, stage)
            },
            (Happened::Stopping, stage) if stage.awaits_worker() => Follows {
                call: CallEffect::Abandon(CancelReason::Stopping),
                ..self.lose(Refusal::STOPPING, stage)
            },
            (Happened::ClientGone { unsent, logged }, stage) => {
                self.lose_client(unsent, logged, stage)
            }
            _ => Follows::default(),
        }
    }

    fn go_on(&mut self, stage: Stage) -> Follows {
        self.stage = stage;
        Follows::default()
    }

    fn submit(&mut self) -> Follows {
        self.stage = Stage::Waiting;
        self.deadline = None;
        Follows::call(CallEffect::Submit)
    }

    /// All of the response has left.
    fn conclude(&mut self, after: After) -> Follows {
        let client = match after {
            After::KeepAlive => ClientEffect::Next,
            After::Discard => {
                self.stage = Stage::Discarding;
                ClientEffect::Discard
            }
            After::Close => ClientEffect::End,
            After::Cut => ClientEffect::Reset,
            After::HandOver => {
                self.response.status = SWITCHED;
                ClientEffect::HandOver
            }
        };
        Follows {
            conclusion: Conclusion::Told,
            client,
            ..Follows::default()
        }
    }

    fn refuse(&mut self, refusal: Refusal, stage: Stage) -> Follows {
        let call = if stage.awaits_worker() {
            CallEffect::Abandon(CancelReason::BodyFault)
        } else {
            CallEffect::Nothing
        };
        self.request.upload = None;
        let client = if stage.is_answered() {
            self.cut(refusal.message(), Some(refusal))
        } else {
            ClientEffect::Reply(refusal)
        };
        self.response.logged = false;
        Follows {
            call,
            client,
            ..Follows::default()
        }
    }

    fn give_up(&mut self, reason: AbortReason) -> Follows {
        let told = describe(reason);
        if self.stage.is_answered() {
            let log = if reason == AbortReason::Stopping {
                LogEffect::BrokenOff(told)
            } else {
                LogEffect::Failed(told)
            };
            return Follows {
                log,
                call: CallEffect::Leave,
                client: self.cut(told, None),
                ..Follows::default()
            };
        }
        let client = match reason {
            AbortReason::Silent => self.cut(told, None),
            AbortReason::Declined => return self.submit_again(),
            AbortReason::Interrupted => ClientEffect::Reply(Refusal::WORKER_LOST),
            AbortReason::Stopping => ClientEffect::Reply(Refusal::STOPPING),
            AbortReason::ApplicationFailed
            | AbortReason::LengthMismatch
            | AbortReason::TooLarge => ClientEffect::Reply(Refusal::APPLICATION_FAILED),
        };
        Follows {
            call: CallEffect::Leave,
            client,
            ..Follows::default()
        }
    }

    fn submit_again(&mut self) -> Follows {
        self.request.declines += 1;
        if self.request.declines > DECLINES {
            let refusal = Refusal::overload(Duration::from_secs(1));
            return Follows {
                call: CallEffect::Leave,
                client: ClientEffect::Reply(refusal),
                ..Follows::default()
            };
        }
        self.submit()
    }

    /// The client sees an error if it has seen nothing yet, else that something is missing.
    fn fail(&mut self, refusal: Refusal, told: &'static str, stage: Stage) -> Follows {
        Follows::client(if stage.is_answered() {
            self.cut(told, None)
        } else {
            ClientEffect::Reply(refusal)
        })
    }

    /// The same where the worker will not come to write a line for the access log.
    fn lose(&mut self, refusal: Refusal, stage: Stage) -> Follows {
        self.response.logged &= !stage.is_answered();
        self.fail(refusal, refusal.message(), stage)
    }

    fn cut(&mut self, reason: &'static str, fault: Option<Refusal>) -> ClientEffect {
        self.response.reason = Some(reason);
        // A WebSocket has an end of its own, which the client is told.
        if self.stage != Stage::Talking {
            self.stage = Stage::Flushing(After::Cut);
        }
        ClientEffect::Cut { fault }
    }

    fn lose_client(&mut self, unsent: u64, logged: bool, stage: Stage) -> Follows {
        let mut conclusion = Conclusion::NotYet;
        // Of what could not be read is told if it has an answer.
        let has_answer = self.response.status != 0;
        if (self.request.readable || has_answer) && stage != Stage::Discarding {
            conclusion = Conclusion::Told;
            self.response.reason.get_or_insert(CLIENT_LEFT_REASON);
            if !has_answer {
                self.response.status = CLIENT_LEFT;
                self.response.logged = logged;
                conclusion = Conclusion::Abandoned;
            }
            self.response.body_bytes = self.response.body_bytes.saturating_sub(unsent);
        }
        Follows {
            conclusion,
            call: CallEffect::Abandon(CancelReason::ClientGone),
            client: ClientEffect::Close,
            ..Follows::default()
        }
    }
}

/// Why a worker gave a response up, for the log.
fn describe(reason: AbortReason) -> &'static str {
    match reason {
        AbortReason::ApplicationFailed => "the application failed",
        AbortReason::LengthMismatch => "the body is not as long as was promised",
        AbortReason::Declined => "the worker did not take it",
        AbortReason::TooLarge => "the response head is too large",
        AbortReason::Silent => "the application wants no answer sent",
        AbortReason::Interrupted => "the worker was stopped",
        AbortReason::Stopping => "its worker ended before it did",
    }
}
