//! Between placing and claiming: what a worker is told about a request it has not taken passes unheard, so
//! nothing is said then, and everything that happened meanwhile is known when it has taken it.
//!
//! Each kind of event with each moment at which its cause can come: before the request is placed, while it
//! lies in the ring, after it was taken.

use oxicorn_gateway::Settings;
use oxicorn_gateway::control::{FromGateway, ToGateway};
use oxicorn_link::StreamId;
use oxicorn_link::window::REQUEST_WINDOW;
use oxicorn_link::wire::{
    BodyPlace, CancelReason, EventKind, HeaderList, ResponseKind, decode_cancel, encode_credit,
    flags,
};

use crate::scenario::{Client, Scenario, StubWorker, eventually, patient};

/// Head of a request whose body comes in chunks, and a first chunk.
const HEAD: &str = "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";

fn streaming() -> Settings {
    let mut settings = patient();
    settings.stream_requests = true;
    settings
}

/// What may happen to a request before anybody has taken it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happens {
    /// The end of a body of which nothing else came.
    EmptyEnd,
    /// A chunk and the end.
    Body,
    /// The end with trailers.
    Trailers,
    /// A chunk that is none.
    Broken,
    /// The client resets.
    Reset,
    /// The worker is retired.
    Retired,
}

const ALL: [Happens; 6] = [
    Happens::EmptyEnd,
    Happens::Body,
    Happens::Trailers,
    Happens::Broken,
    Happens::Reset,
    Happens::Retired,
];

/// When it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    InTheRing,
    Taken,
}

/// Lets it happen, and waits until the gateway knows.
fn happen(
    scenario: &Scenario,
    worker: &StubWorker,
    mut client: Client,
    what: Happens,
    moment: Moment,
) -> Option<Client> {
    match what {
        Happens::EmptyEnd => client.send("0\r\n\r\n"),
        Happens::Body => client.send("5\r\nhello\r\n0\r\n\r\n"),
        Happens::Trailers => client.send("0\r\nX-Sum: 7\r\n\r\n"),
        Happens::Broken => {
            client.send("nonsense\r\n");
            // Lines are handed over by a later turn than the one that takes the request back.
            scenario.access_log(1);
            return Some(client);
        }
        Happens::Reset => {
            client.reset();
            scenario.access_log(1);
            return None;
        }
        Happens::Retired => {
            scenario.tell(&ToGateway::RetireWorker {
                worker: worker.number,
            });
            if moment == Moment::InTheRing {
                scenario.expect("nothing is left to it", |message| {
                    matches!(message, FromGateway::WorkerDrained { .. })
                });
            }
            return Some(client);
        }
    }
    // What is sent on another connection is hardly looked at before; if it is, nothing can have been said yet either.
    let mut other = scenario.connect();
    other.send("nonsense\r\n\r\n");
    assert_eq!(other.read_response().status, 400);
    Some(client)
}

fn nothing_was_said(worker: &mut StubWorker) -> bool {
    worker.parts.events.try_next(&mut Vec::new()).is_none()
}

/// Asks for the body of `stream` and gives what comes of it: the bytes, and the trailers.
fn body_of(worker: &mut StubWorker, stream: StreamId) -> (Vec<u8>, Vec<u8>) {
    worker.send(
        ResponseKind::Credit,
        stream,
        0,
        &encode_credit(REQUEST_WINDOW),
    );
    let mut body = Vec::new();
    loop {
        let (event, payload) = worker.event_with_flags();
        assert_eq!(event.stream, stream);
        match event.kind {
            EventKind::BodyChunk => {
                body.extend_from_slice(&payload);
                if event.flags & flags::END != 0 {
                    return (body, Vec::new());
                }
            }
            EventKind::BodyEnd => return (body, payload),
            other => panic!("{other:?} instead of the body"),
        }
    }
}

fn play(what: Happens, moment: Moment) {
    let (mut scenario, mut worker) = Scenario::with_worker(streaming());
    let mut client = scenario.connect();
    client.send(HEAD);
    eventually("the request is placed", || {
        worker.parts.requests.has_pending()
    });
    let claimed_before = (moment == Moment::Taken).then(|| worker.claim());
    let client = happen(&scenario, &worker, client, what, moment);
    if moment == Moment::InTheRing {
        assert!(nothing_was_said(&mut worker), "{what:?} was told to nobody");
    }
    let unwanted = matches!(what, Happens::Broken | Happens::Reset);
    let claimed = match claimed_before {
        Some(claimed) => claimed,
        None if what == Happens::Retired => {
            // Taken back, and given to another one.
            assert!(worker.try_claim().is_none());
            let mut other = scenario.ready_worker(1);
            let claimed = other.claim();
            assert!(nothing_was_said(&mut other));
            worker = other;
            claimed
        }
        None if unwanted => {
            assert!(worker.try_claim().is_none(), "{what:?}: nobody wants it");
            return;
        }
        None => worker.claim(),
    };
    if unwanted {
        let (kind, stream, payload) = worker.event();
        assert_eq!((kind, stream), (EventKind::Cancel, claimed.stream));
        let reason = match what {
            Happens::Broken => CancelReason::BodyFault,
            _ => CancelReason::ClientGone,
        };
        assert_eq!(decode_cancel(&payload), Ok(reason));
        return;
    }
    let mut client = client.expect("it is still there");
    if what == Happens::Retired {
        client.send("0\r\n\r\n");
    }
    assert!(matches!(
        claimed.view().head.body,
        BodyPlace::Streamed { .. }
    ));
    let (body, trailers) = body_of(&mut worker, claimed.stream);
    assert_eq!(
        body,
        if what == Happens::Body {
            &b"hello"[..]
        } else {
            b""
        }
    );
    if what == Happens::Trailers {
        let trailers = HeaderList::decode(&trailers).unwrap();
        assert_eq!(trailers.iter().next(), Some((&b"X-Sum"[..], &b"7"[..])));
    }
    worker.respond(&claimed, "answer");
    assert_eq!(
        client.read_response().text(),
        "answer",
        "{what:?} {moment:?}"
    );
}

#[test]
fn nothing_is_said_of_a_request_before_it_is_taken_and_nothing_is_lost() {
    for what in ALL {
        for moment in [Moment::InTheRing, Moment::Taken] {
            play(what, moment);
        }
    }
}

#[test]
fn an_end_that_nobody_asks_for_keeps_nobody_waiting() {
    let (scenario, mut worker) = Scenario::with_worker(streaming());
    let mut client = scenario.connect();
    client.send(HEAD);
    let claimed = worker.claim();
    client.send("0\r\n\r\nGET /next HTTP/1.1\r\nHost: t\r\n\r\n");
    worker.respond(&claimed, "answer");
    assert_eq!(client.read_response().text(), "answer");
    worker.echo();
    assert_eq!(client.read_response().text(), "/next");
}

/// Threads listen from their first message on; what they were told before may have been taken out of the
/// ring by another thread, which dropped it.
#[test]
fn a_thread_that_begins_to_answer_nobody_is_told_once_more() {
    for begins in [ResponseKind::Head, ResponseKind::Hijack] {
        let (scenario, mut worker) = Scenario::with_worker(patient());
        let mut client = scenario.connect();
        client.get("/");
        let claimed = worker.claim();
        client.reset();
        assert_eq!(worker.event().0, EventKind::Cancel);
        match begins {
            ResponseKind::Head => worker.head(claimed.stream, 0, 200, &[], b"first"),
            kind => worker.send(kind, claimed.stream, 0, b""),
        }
        loop {
            match worker.event() {
                (EventKind::Cancel, stream, _) => break assert_eq!(stream, claimed.stream),
                (kind, ..) => assert_eq!(kind, EventKind::Credit, "{begins:?}"),
            }
        }
    }
}
