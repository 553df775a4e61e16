//! Walks everything that can happen to an exchange, in every order.
//!
//! What an exchange, its worker's half, its client and the access log are in together is a small world with
//! few states. From each of them each event is tried that can come then; what follows is carried out on the
//! world, which notices what must never be.

use std::collections::{BTreeSet, VecDeque};

use oxicorn_link::wire::AbortReason;
use oxicorn_proto::http1::Next;

use super::*;
use crate::exchange::refusal::Refusal;

/// What the client has of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    #[default]
    None,
    Begun,
    Whole,
}

/// Everybody an exchange concerns.
#[derive(Debug, Default)]
struct World {
    exchange: Exchange,
    /// There is a call, and it is this exchange's.
    has_call: bool,
    answer: Answer,
    lines: u32,
    over: bool,
}

/// What tells worlds apart.
type Seen = (String, bool, Answer, u32, bool, u8, bool);

impl World {
    /// What happens to an exchange whose head could be read (or not) by these events.
    fn after(readable: bool, path: &[Happened]) -> Self {
        let mut world = Self::default();
        world.exchange.request.readable = readable;
        for happened in path {
            world.meet(*happened);
        }
        world
    }

    fn seen(&self) -> Seen {
        let request = &self.exchange.request;
        let stage = format!("{:?}", self.exchange.stage());
        let answered = self.exchange.response.status != 0;
        let (call, lines) = (self.has_call, self.lines);
        (
            stage,
            call,
            self.answer,
            lines,
            self.over,
            request.declines,
            answered,
        )
    }

    fn has_whole(&self) -> bool {
        self.answer == Answer::Whole
    }

    /// Whether the event can come now: of a worker only as long as there is a call, and so on.
    fn can_meet(&self, happened: Happened) -> bool {
        let stage = self.exchange.stage();
        let waits = self.has_call && !self.has_whole();
        match happened {
            _ if self.over => false,
            Happened::Ready => stage == Stage::Receiving && self.exchange.request.readable,
            Happened::NeedsBody => stage == Stage::Waiting && !self.exchange.request.whole,
            Happened::Head | Happened::Accepted | Happened::Hijacked => {
                waits && stage == Stage::Waiting
            }
            Happened::Complete(_) => waits && stage.is_served(),
            Happened::HungUp => stage == Stage::Talking,
            Happened::Aborted(AbortReason::Declined) => waits && stage == Stage::Waiting,
            Happened::Aborted(_) | Happened::Mistaken | Happened::Expired | Happened::Stopping => {
                waits
            }
            Happened::WorkerLost => waits,
            Happened::Written => stage.is_flushing(),
            // A fault of the request is found while it is read; nobody reads on when it is answered.
            Happened::Refused(_) => matches!(stage, Stage::Receiving) || stage.is_served(),
            Happened::ClientGone { logged, .. } => self.has_call || !logged,
        }
    }

    fn meet(&mut self, happened: Happened) {
        match happened {
            Happened::Head | Happened::Accepted | Happened::Complete(_) => {
                self.answer = Answer::Begun;
                self.exchange.response.status = 200;
            }
            _ => {}
        }
        if matches!(happened, Happened::Complete(_) | Happened::HungUp) {
            self.answer = Answer::Whole;
        }
        let follows = self.exchange.on(happened);
        if matches!(happened, Happened::Complete(_)) {
            // As the ring's reader does behind the last message.
            self.has_call = false;
        }
        self.carry_out(follows);
    }

    fn carry_out(&mut self, follows: Follows) {
        if follows.conclusion != Conclusion::NotYet {
            self.lines += 1;
        }
        match follows.call {
            CallEffect::Nothing => {}
            CallEffect::Submit => {
                assert_eq!(self.answer, Answer::None, "an answered request is queued");
                self.has_call = true;
            }
            CallEffect::Leave | CallEffect::Cancel(_) | CallEffect::Abandon(_) => {
                self.has_call = false;
            }
        }
        match follows.client {
            ClientEffect::Nothing | ClientEffect::InviteBody => {}
            ClientEffect::Reply(_) => self.reply(),
            ClientEffect::Cut { .. } if self.exchange.stage() == Stage::Talking => {
                // Its session says the close, and hangs up.
                self.meet(Happened::HungUp);
            }
            ClientEffect::Cut { .. } => assert!(!self.has_whole(), "a whole answer is cut"),
            ClientEffect::Discard => assert!(self.has_whole(), "a body is forgotten too early"),
            ClientEffect::Next
            | ClientEffect::End
            | ClientEffect::Reset
            | ClientEffect::Close
            | ClientEffect::HandOver => self.over = true,
        }
    }

    fn reply(&mut self) {
        assert_eq!(self.answer, Answer::None, "a second answer");
        assert!(!self.has_call, "a worker may answer, too");
        self.answer = Answer::Whole;
        self.exchange.response.status = 503;
        let follows = self.exchange.on(Happened::Complete(After::Close));
        self.carry_out(follows);
    }

    /// What holds at any time.
    fn check(&self, path: &[Happened]) {
        let stage = self.exchange.stage();
        assert!(self.lines <= 1, "told of twice: {path:?}");
        if stage.is_served() && !self.over {
            assert!(self.has_call, "nobody will answer: {path:?}");
        }
        if self.over {
            let told = self.exchange.request.readable || self.has_whole();
            let due = u32::from(told || self.lines == 1);
            assert_eq!(self.lines, due, "never told of: {path:?}");
            let handed = stage == Stage::Flushing(After::HandOver);
            assert!(handed || !self.has_call, "a call of nobody's: {path:?}");
        }
    }
}

fn events() -> Vec<Happened> {
    let mut all = vec![
        Happened::Ready,
        Happened::NeedsBody,
        Happened::Head,
        Happened::Accepted,
        Happened::Complete(After::from(Next::KeepAlive)),
        Happened::Complete(After::from(Next::Drain)),
        Happened::Complete(After::Cut),
        Happened::Hijacked,
        Happened::HungUp,
        Happened::Written,
        Happened::Refused(Refusal::BODY_TOO_SLOW),
        Happened::Refused(Refusal::STOPPING),
        Happened::Mistaken,
        Happened::WorkerLost,
        Happened::Expired,
        Happened::Stopping,
    ];
    all.extend([false, true].map(|logged| Happened::ClientGone { unsent: 0, logged }));
    all.extend(
        [
            AbortReason::ApplicationFailed,
            AbortReason::LengthMismatch,
            AbortReason::Declined,
            AbortReason::TooLarge,
            AbortReason::Silent,
            AbortReason::Interrupted,
            AbortReason::Stopping,
        ]
        .map(Happened::Aborted),
    );
    all
}

/// Every state of the world, each with the first way that leads there.
fn walk(readable: bool) -> Vec<Vec<Happened>> {
    let mut seen = BTreeSet::from([World::after(readable, &[]).seen()]);
    let mut ways = VecDeque::from([Vec::new()]);
    let mut all = Vec::new();
    while let Some(way) = ways.pop_front() {
        for event in events() {
            if !World::after(readable, &way).can_meet(event) {
                continue;
            }
            let next = [way.as_slice(), &[event]].concat();
            let world = World::after(readable, &next);
            world.check(&next);
            if seen.insert(world.seen()) {
                ways.push_back(next);
            }
        }
        all.push(way);
    }
    all
}

#[test]
fn whatever_happens_is_answered_once_and_told_of_once() {
    let states = walk(true).len();
    assert!(states > 40, "{states} states: the walk has not gone far");
}

#[test]
fn what_could_not_be_read_is_answered_all_the_same() {
    for way in walk(false) {
        let world = World::after(false, &way);
        assert!(!world.has_call, "queued without a head: {way:?}");
    }
}

#[test]
fn whatever_has_happened_the_end_is_not_far() {
    for way in walk(true) {
        let mut world = World::after(true, &way);
        // Its worker dies, and the client reads what there is.
        for event in [Happened::WorkerLost, Happened::Written] {
            if world.can_meet(event) {
                world.meet(event);
            }
        }
        let stage = world.exchange.stage();
        // What is left is the client's: its body, or its leaving.
        let waits_for_client = matches!(stage, Stage::Receiving | Stage::Discarding);
        assert!(world.over || waits_for_client, "{stage:?} after {way:?}");
    }
}

#[test]
fn what_does_not_concern_a_stage_changes_nothing() {
    for way in walk(true) {
        let world = World::after(true, &way);
        let stage = world.exchange.stage();
        if world.over || !matches!(stage, Stage::Flushing(_) | Stage::Discarding) {
            continue;
        }
        // A worker that goes on for an exchange that has its answer.
        let mut late = World::after(true, &way);
        for event in [
            Happened::Head,
            Happened::Mistaken,
            Happened::WorkerLost,
            Happened::Expired,
        ] {
            if stage != Stage::Flushing(After::HandOver) {
                late.meet_late(event);
                assert_eq!(late.exchange.stage(), stage, "{event:?} after {way:?}");
            }
        }
    }
}

impl World {
    fn meet_late(&mut self, event: Happened) {
        let follows = self.exchange.on(event);
        assert_eq!(follows.conclusion, Conclusion::NotYet);
        assert_eq!(follows.call, CallEffect::Nothing);
        assert!(matches!(follows.client, ClientEffect::Nothing));
    }
}

#[test]
fn a_request_is_declined_three_times_before_it_is_refused() {
    let mut path = vec![Happened::Ready];
    path.extend([Happened::Aborted(AbortReason::Declined); 3]);
    assert_eq!(World::after(true, &path).exchange.stage(), Stage::Waiting);
    path.push(Happened::Aborted(AbortReason::Declined));
    let world = World::after(true, &path);
    assert_eq!(world.exchange.stage(), Stage::Flushing(After::Close));
}

#[test]
fn who_left_before_an_answer_is_told_of_as_such() {
    let gone = Happened::ClientGone {
        unsent: 0,
        logged: true,
    };
    let left = World::after(true, &[Happened::Ready, gone])
        .exchange
        .response;
    assert_eq!((left.status, left.logged), (499, true));
    let head = [Happened::Ready, Happened::Head, gone];
    let left = World::after(true, &head).exchange.response;
    assert_eq!((left.status, left.reason), (200, Some("the client left")));
}

#[test]
fn the_line_a_worker_cannot_write_any_more_is_ours() {
    for lost in [
        Happened::WorkerLost,
        Happened::Expired,
        Happened::Stopping,
        Happened::Refused(Refusal::BODY_TOO_SLOW),
    ] {
        let mut world = World::after(true, &[Happened::Ready, Happened::Head]);
        world.exchange.response.logged = true;
        world.meet(lost);
        assert!(!world.exchange.response.logged, "{lost:?}");
    }
}
