//! Both ends together: what one sends, the other gets, once, whole, and without polling.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use oxicorn_link::wire::{EventKind, ResponseKind, flags};
use oxicorn_link::*;
use support::*;

fn stream(gateway: &GatewayEnd, key: u32) -> StreamId {
    StreamId::new(gateway.epoch(), 0, key)
}

fn file(content: &[u8]) -> OwnedFd {
    oxicorn_os::memfd::with_content("test", content).unwrap()
}

fn content(file: &OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; 100];
    let len = oxicorn_os::sendfile::read_at(file, &mut bytes, 0).unwrap();
    bytes.truncate(len);
    bytes
}

fn is_readable(descriptor: BorrowedFd<'_>) -> bool {
    use oxicorn_os::poll::{Polled, wait_readable};
    wait_readable(&[descriptor], Some(Duration::ZERO)).unwrap() != Polled::TimedOut
}

fn response(gateway: &mut GatewayEnd) -> Option<(ResponseHeader, Vec<u8>)> {
    let header = gateway.next_response().unwrap()?;
    let mut payload = Vec::new();
    gateway.payload_into(0..header.len, &mut payload);
    gateway.release();
    Some((header, payload))
}

#[test]
fn request_and_response_arrive() {
    let (mut gateway, mut worker) = pair();
    let id = stream(&gateway, 5);
    let mut payload = b"rest of an earlier one".to_vec();
    assert_eq!(worker.requests.try_claim(&mut payload), None);
    let placement = gateway
        .place_request_parts(id, flags::END, b"head", b"body")
        .unwrap();
    assert!(!gateway.is_claimed(placement));
    assert!(worker.requests.has_pending());
    let request = worker.requests.try_claim(&mut payload).unwrap();
    assert_eq!(
        (request.stream, request.flags, request.epoch),
        (id, flags::END, gateway.epoch())
    );
    assert_eq!(payload, b"headbody");
    assert!(gateway.is_claimed(placement));
    assert!(!gateway.revoke(placement));

    worker
        .responses
        .try_send(ResponseKind::Head, id, flags::END, b"200", b"hello")
        .unwrap();
    let (header, payload) = response(&mut gateway).unwrap();
    assert_eq!(
        (header.kind, header.stream, header.len),
        (ResponseKind::Head, id, 8)
    );
    assert_eq!(payload, b"200hello");
    assert!(gateway.next_response().unwrap().is_none());
}

#[test]
fn same_response_is_shown_until_it_is_released() {
    let (mut gateway, mut worker) = pair();
    let id = stream(&gateway, 1);
    worker
        .responses
        .try_send(ResponseKind::BodyChunk, id, 0, b"abcdef", b"")
        .unwrap();
    assert_eq!(gateway.next_response(), gateway.next_response());
    let mut part = b"> ".to_vec();
    gateway.payload_into(2..4, &mut part);
    gateway.payload_into(4..100, &mut part);
    gateway.payload_into(100..200, &mut part);
    assert_eq!(part, b"> cdef");
    assert!(!gateway.sleep_begin(), "there is one to read");
    gateway.release();
    assert!(gateway.sleep_begin());
    gateway.release();
    assert!(gateway.sleep_begin(), "releasing nothing changes nothing");
}

#[test]
fn payload_is_sent_straight_out_of_the_ring() {
    let (mut gateway, mut worker) = pair();
    let (kind, id) = (ResponseKind::BodyChunk, stream(&gateway, 1));
    worker
        .responses
        .try_send(kind, id, 0, b"abc", b"def")
        .unwrap();
    gateway.next_response().unwrap().unwrap();
    let (here, mut there) = UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    for (range, expected) in [(2..4, "<cd>"), (4..100, "<ef>"), (100..200, "<>")] {
        let sent = gateway.send_payload(&here, b"<", range, b">").unwrap();
        assert_eq!(sent, Some(expected.len()));
        let mut got = vec![0; expected.len()];
        there.read_exact(&mut got).unwrap();
        assert_eq!(got, expected.as_bytes());
    }
    while let Some(sent) = gateway.send_payload(&here, b"<", 0..6, b">").unwrap() {
        assert_eq!(sent, 8);
    }
    gateway.release();
    drop(there);
    let gone = gateway.send_payload(&here, b"<", 0..6, b">").unwrap_err();
    assert_eq!(gone.kind(), std::io::ErrorKind::BrokenPipe);
}

/// The file's blocks that have memory tell where somebody has written.
#[test]
fn ends_that_keep_up_leave_most_of_a_ring_alone() {
    let parts = LinkParts::create(Sizes::default()).unwrap();
    let used = || {
        File::from(parts.memory.try_clone().unwrap())
            .metadata()
            .unwrap()
            .blocks()
            * 512
    };
    let (mut gateway, mut worker) = (gateway(&parts), worker(&parts, WaitMode::Futex));
    let (kind, id) = (ResponseKind::BodyChunk, stream(&gateway, 1));
    let ring = Sizes::default().responses;
    let mut payload = Vec::new();
    for lag in [1, 2, 3, 16] {
        for number in 0..2 * ring / 400 / lag {
            let body = [number.to_ne_bytes(); 50].concat();
            for _ in 0..lag {
                gateway.place_request(id, 0, &body).unwrap();
                gateway
                    .send_event(EventKind::BodyChunk, id, 0, &body)
                    .unwrap();
                let sent = worker.responses.try_send(kind, id, 0, b"", &body);
                assert_eq!(sent, Ok(()));
            }
            for _ in 0..lag {
                assert_eq!(response(&mut gateway).unwrap().1, body);
                worker.requests.try_claim(&mut payload).unwrap();
                assert_eq!(payload, body);
                worker.events.try_next(&mut payload).unwrap();
                assert_eq!(payload, body);
            }
        }
    }
    assert!(used() < 400 << 10, "{} bytes", used());
    // One that lags behind has a part of it, and all of it as soon as it has read on.
    let body = [7; 1000];
    let mut sent = 0;
    for part in [ring / 17, ring * 9 / 10] {
        while worker.responses.try_send(kind, id, 0, b"", &body).is_ok() {
            sent += body.len();
        }
        assert!(sent > part, "{sent} bytes");
        assert_eq!(response(&mut gateway).unwrap().1, body);
        sent -= body.len();
    }
    while let Some((_, payload)) = response(&mut gateway) {
        assert_eq!(payload, body);
        sent -= payload.len();
    }
    assert_eq!(sent, 0);
}

#[test]
fn revoked_requests_are_skipped_with_their_descriptors() {
    let (mut gateway, mut worker) = pair();
    let [one, two] = [1, 2].map(|key| stream(&gateway, key));
    gateway.send_descriptor(one, file(b"one")).unwrap();
    let first = gateway
        .place_request(one, flags::HAS_DESCRIPTOR, b"one")
        .unwrap();
    assert!(gateway.revoke(first));
    assert!(!gateway.revoke(first));
    gateway.send_descriptor(two, file(b"two")).unwrap();
    let second = gateway
        .place_request(two, flags::HAS_DESCRIPTOR, b"two")
        .unwrap();
    let mut payload = Vec::new();
    assert_eq!(worker.requests.try_claim(&mut payload).unwrap().stream, two);
    assert_eq!(payload, b"two");
    assert!(gateway.is_claimed(second));
    assert_eq!(content(&worker.descriptors.take(two).unwrap()), b"two");
    let discarded = worker.descriptors.take(one);
    assert!(matches!(discarded, Err(DescriptorError::Missing)));
}

#[test]
fn placements_stay_true_when_their_place_is_used_again() {
    let (mut gateway, mut worker) = pair();
    let id = stream(&gateway, 1);
    let first = gateway.place_request(id, 0, &[1; 1000]).unwrap();
    let mut payload = Vec::new();
    for _ in 0..20 {
        worker.requests.try_claim(&mut payload).unwrap();
        gateway.place_request(id, 0, &[2; 1000]).unwrap();
        assert!(gateway.is_claimed(first));
        assert!(!gateway.revoke(first));
    }
}

#[test]
fn full_rings_say_so_and_empty_again() {
    let (mut gateway, mut worker) = pair();
    let id = stream(&gateway, 1);
    let longest = gateway.max_request_payload();
    assert_eq!(
        gateway.place_request(id, 0, &vec![0; longest + 1]),
        Err(RingFull::MessageTooLong)
    );
    let mut payload = Vec::new();
    for _ in 0..5 {
        let mut placed = 0;
        while gateway.place_request(id, 0, &vec![7; longest]).is_ok() {
            placed += 1;
        }
        assert!(placed > 0);
        assert_eq!(
            gateway.place_request(id, 0, &vec![0; longest]),
            Err(RingFull::NoRoomYet)
        );
        for _ in 0..placed {
            worker.requests.try_claim(&mut payload).unwrap();
            assert_eq!(payload.len(), longest);
        }
        // An odd one in between moves the place where the ring wraps.
        gateway.place_request(id, 0, b"odd").unwrap();
        worker.requests.try_claim(&mut payload).unwrap();
    }
    let chunk = vec![0; worker.responses.max_payload() + 1];
    let sent = worker
        .responses
        .try_send(ResponseKind::BodyChunk, id, 0, &chunk, b"");
    assert_eq!(sent, Err(RingFull::MessageTooLong));
}

#[test]
fn threads_exchange_requests_and_responses_asleep_and_awake() {
    const REQUESTS: u32 = 20_000;
    let (mut gateway, worker) = pair();
    let WorkerParts {
        mut requests,
        mut responses,
        ..
    } = worker;
    let serving = thread::spawn(move || {
        let mut payload = Vec::new();
        for _ in 0..REQUESTS {
            let request = loop {
                match requests.try_claim(&mut payload) {
                    Some(request) => break request,
                    None => assert_eq!(requests.wait(LONG), WaitOutcome::Ready),
                }
            };
            let kind = ResponseKind::Head;
            while responses
                .try_send(kind, request.stream, 0, b"echo ", &payload)
                .is_err()
            {
                assert_eq!(
                    responses.wait_room(payload.len() + 5, LONG),
                    WaitOutcome::Ready
                );
            }
        }
    });
    let (mut placed, mut answered) = (0, 0);
    while answered < REQUESTS {
        while placed < REQUESTS && placed - answered < 64 {
            let payload = vec![b'x'; placed as usize % 500];
            if gateway
                .place_request(stream(&gateway, placed), 0, &payload)
                .is_err()
            {
                break;
            }
            placed += 1;
        }
        while let Some((header, payload)) = response(&mut gateway) {
            assert_eq!(header.stream, stream(&gateway, answered));
            assert_eq!(payload.len(), answered as usize % 500 + 5);
            answered += 1;
        }
        if answered < placed {
            sleep_gateway(&gateway);
        }
    }
    serving.join().unwrap();
}

#[test]
fn each_request_wakes_one_of_several_threads() {
    const THREADS: u32 = 4;
    const ROUNDS: u32 = 500;
    let (mut gateway, worker) = pair();
    let WorkerParts {
        requests,
        responses,
        waker,
        ..
    } = worker;
    let shared = std::sync::Arc::new(std::sync::Mutex::new((requests, responses)));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let shared = std::sync::Arc::clone(&shared);
            let waiter = shared.lock().unwrap().0.waiter();
            thread::spawn(move || {
                let mut payload = Vec::new();
                loop {
                    let claimed = shared.lock().unwrap().0.try_claim(&mut payload);
                    if let Some(ClaimedRequest { stream, .. }) = claimed {
                        let responses = &mut shared.lock().unwrap().1;
                        responses
                            .try_send(ResponseKind::Head, stream, 0, b"", b"")
                            .unwrap();
                    } else if waiter.wait(LONG) == WaitOutcome::Ended {
                        return;
                    }
                }
            })
        })
        .collect();
    for round in 0..ROUNDS {
        let count = round % 5 + 1;
        for key in 0..count {
            gateway
                .place_request(stream(&gateway, key), 0, b"")
                .unwrap();
        }
        let mut answered = 0;
        while answered < count {
            match response(&mut gateway) {
                Some(_) => answered += 1,
                None => sleep_gateway(&gateway),
            }
        }
    }
    waker.end();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn placed_requests_are_announced_together_before_the_gateway_sleeps_at_the_latest() {
    for announce in [GatewayEnd::announce_requests, |gateway: &GatewayEnd| {
        assert!(gateway.sleep_begin());
    }] {
        let (mut gateway, mut worker) = pair_of(SMALL, WaitMode::Doorbell);
        let doorbell = worker.doorbell.unwrap();
        doorbell.sleep_end();
        assert!(doorbell.sleep_begin());
        for key in 1..=3 {
            gateway
                .place_request(stream(&gateway, key), 0, b"")
                .unwrap();
        }
        assert!(!is_readable(doorbell.fd()), "there may be more");
        announce(&gateway);
        assert!(is_readable(doorbell.fd()));
        doorbell.sleep_end();
        for key in 1..=3 {
            let claimed = worker.requests.try_claim(&mut Vec::new()).unwrap();
            assert_eq!(claimed.stream, stream(&gateway, key));
        }
        assert!(doorbell.sleep_begin());
        gateway.announce_requests();
        assert!(!is_readable(doorbell.fd()), "they were announced");
    }
}

#[test]
fn body_larger_than_the_ring_flows_through() {
    const CHUNK: usize = 1500;
    const CHUNKS: usize = 2000;
    let (mut gateway, worker) = pair();
    let mut responses = worker.responses;
    let id = stream(&gateway, 1);
    let writing = thread::spawn(move || {
        for number in 0..CHUNKS {
            let chunk = [number.to_le_bytes()[0]; CHUNK];
            while let Err(full) = responses.try_send(ResponseKind::BodyChunk, id, 0, &chunk, b"") {
                assert_eq!(full, RingFull::NoRoomYet);
                assert_eq!(responses.wait_room(CHUNK, LONG), WaitOutcome::Ready);
            }
        }
    });
    for number in 0..CHUNKS {
        let chunk = loop {
            match response(&mut gateway) {
                Some((_, chunk)) => break chunk,
                None => sleep_gateway(&gateway),
            }
        };
        assert_eq!(chunk, [number.to_le_bytes()[0]; CHUNK]);
    }
    writing.join().unwrap();
}

#[test]
fn gateway_that_finds_the_events_full_is_rung_when_there_is_room() {
    let (mut gateway, mut worker) = pair();
    let id = stream(&gateway, 1);
    let chunk = [0; 1000];
    while gateway
        .send_event(EventKind::BodyChunk, id, 0, &chunk)
        .is_ok()
    {}
    assert!(gateway.sleep_begin());
    let mut payload = Vec::new();
    let event = worker.events.try_next(&mut payload).unwrap();
    assert_eq!(
        (event.kind, event.stream, payload.len()),
        (EventKind::BodyChunk, id, 1000)
    );
    wait_readable(gateway.doorbell());
    gateway
        .send_event(EventKind::BodyChunk, id, flags::END, &chunk)
        .unwrap();
}

#[test]
fn waiting_thread_gets_events() {
    let (mut gateway, worker) = pair();
    let id = stream(&gateway, 1);
    let mut events = worker.events;
    let waiting = thread::spawn(move || {
        let mut payload = Vec::new();
        loop {
            match events.try_next(&mut payload) {
                Some(event) if event.kind == EventKind::Cancel => return,
                Some(_) => {}
                None => assert_eq!(events.wait(LONG), WaitOutcome::Ready),
            }
        }
    });
    for _ in 0..1000 {
        while gateway
            .send_event(EventKind::Credit, id, 0, b"1234")
            .is_err()
        {
            wait_readable(gateway.doorbell());
            gateway.silence_doorbell();
        }
    }
    while gateway.send_event(EventKind::Cancel, id, 0, b"1").is_err() {
        wait_readable(gateway.doorbell());
        gateway.silence_doorbell();
    }
    waiting.join().unwrap();
}

#[test]
fn what_is_placed_wakes_nobody_until_it_is_announced() {
    let (mut gateway, mut worker) = pair();
    let id = stream(&gateway, 1);
    let kind = ResponseKind::BodyChunk;
    assert!(gateway.sleep_begin());
    worker
        .responses
        .try_place(kind, id, 0, b"one", b"")
        .unwrap();
    assert!(!is_readable(gateway.doorbell()), "the other follows");
    worker.responses.try_send(kind, id, 0, b"two", b"").unwrap();
    assert!(is_readable(gateway.doorbell()));
    gateway.sleep_end();
    gateway.silence_doorbell();
    for expected in [b"one", b"two"] {
        assert_eq!(response(&mut gateway).unwrap().1, expected);
    }
    assert!(gateway.sleep_begin());
    worker
        .responses
        .try_place(kind, id, 0, b"one", b"")
        .unwrap();
    worker.responses.announce();
    assert!(is_readable(gateway.doorbell()), "nothing follows after all");
}

#[test]
fn napping_gateway_is_rung_when_the_worker_rests_and_not_before() {
    let (mut gateway, mut worker) = pair_of(SMALL, WaitMode::Doorbell);
    let id = stream(&gateway, 1);
    let doorbell = worker.doorbell.unwrap();
    let rung = |gateway: &GatewayEnd| is_readable(gateway.doorbell());
    assert!(doorbell.sleep_begin());
    assert!(!gateway.nap_begin(), "the worker rests");
    gateway.place_request(id, 0, b"").unwrap();
    doorbell.sleep_end();
    assert!(gateway.nap_begin());
    worker.requests.try_claim(&mut Vec::new()).unwrap();
    for _ in 0..2 {
        let sent = (worker.responses).try_send(ResponseKind::BodyChunk, id, 0, b"x", b"");
        sent.unwrap();
    }
    assert!(!rung(&gateway), "the worker works");
    assert!(doorbell.sleep_begin());
    assert!(rung(&gateway));
    gateway.sleep_end();
    assert!(!gateway.nap_begin(), "there are responses");
    assert!(!rung(&gateway), "the ring of the last nap was silenced");
}

#[test]
fn napping_gateway_is_rung_when_a_thread_of_the_worker_rests() {
    let (mut gateway, worker) = pair();
    let id = stream(&gateway, 1);
    gateway.place_request(id, 0, b"").unwrap();
    assert!(gateway.nap_begin());
    let resting = {
        let events = worker.events.waiter();
        std::thread::spawn(move || events.wait(LONG))
    };
    wait_readable(gateway.doorbell());
    worker.waker.end();
    assert_eq!(resting.join().unwrap(), WaitOutcome::Ended);
}

#[test]
fn event_loop_is_rung_only_while_it_sleeps() {
    let (mut gateway, mut worker) = pair_of(SMALL, WaitMode::Doorbell);
    let id = stream(&gateway, 1);
    let doorbell = worker.doorbell.unwrap();
    doorbell.sleep_end();
    let rung = || is_readable(doorbell.fd());
    gateway.place_request(id, 0, b"").unwrap();
    gateway.announce_requests();
    assert!(!rung());
    assert!(!doorbell.sleep_begin(), "there is a request");
    let mut payload = Vec::new();
    worker.requests.try_claim(&mut payload).unwrap();
    assert!(doorbell.sleep_begin());
    gateway.send_event(EventKind::Cancel, id, 0, b"").unwrap();
    assert!(rung());
    doorbell.sleep_end();
    assert!(!rung());
    assert!(!doorbell.sleep_begin(), "there is an event");
    worker.events.try_next(&mut payload).unwrap();
    assert!(doorbell.sleep_begin());
    worker.waker.interrupt();
    assert!(rung());
    doorbell.sleep_end();
    assert!(
        !doorbell.sleep_begin(),
        "the interruption was not looked at yet"
    );
    assert!(doorbell.sleep_begin());
}

#[test]
fn new_gateway_goes_on_where_the_old_one_stopped() {
    let parts = LinkParts::create(SMALL).unwrap();
    let mut old = gateway(&parts);
    let mut worker = worker(&parts, WaitMode::Futex);
    let mut payload = Vec::new();
    let [taken, left] = [1, 2].map(|key| stream(&old, key));
    old.place_request(taken, 0, b"taken").unwrap();
    worker.requests.try_claim(&mut payload).unwrap();
    old.send_descriptor(left, file(b"left")).unwrap();
    old.place_request(left, flags::HAS_DESCRIPTOR, b"left")
        .unwrap();
    worker
        .descriptors
        .send(taken, file(b"for the old one"), LONG)
        .unwrap();
    worker
        .responses
        .try_send(ResponseKind::Head, taken, 0, b"late", b"")
        .unwrap();
    assert!(worker.responses.is_current(taken));
    drop(old);

    let mut new = gateway(&parts);
    assert!(!worker.responses.is_current(taken));
    let (header, _) = response(&mut new).unwrap();
    assert_eq!(header.stream, taken);
    assert!(!header.stream.is_of_epoch(new.epoch()));
    assert!(new.recv_descriptor().unwrap().is_none());
    let id = stream(&new, 1);
    assert_eq!(
        worker.requests.try_claim(&mut payload),
        None,
        "the one left is skipped"
    );
    new.place_request(id, 0, b"new").unwrap();
    assert_eq!(worker.requests.try_claim(&mut payload).unwrap().stream, id);
    assert_eq!(payload, b"new");
    let discarded = worker.descriptors.take(left);
    assert!(matches!(discarded, Err(DescriptorError::Missing)));
}

#[test]
fn new_gateway_wakes_threads_that_waited_for_the_old_one() {
    let parts = LinkParts::create(SMALL).unwrap();
    let old = gateway(&parts);
    let worker = worker(&parts, WaitMode::Futex);
    let events = worker.events;
    let epoch = old.epoch();
    drop(old);
    let waiting = thread::spawn(move || {
        while worker.responses.is_current(StreamId::new(epoch, 0, 1)) {
            assert_eq!(events.wait(LONG), WaitOutcome::Ready);
        }
    });
    let _new = gateway(&parts);
    waiting.join().unwrap();
}

#[test]
fn descriptors_go_both_ways() {
    let (mut gateway, worker) = pair();
    let [one, two] = [1, 2].map(|key| stream(&gateway, key));
    worker.descriptors.send(one, file(b"one"), LONG).unwrap();
    worker.descriptors.send(two, file(b"two"), LONG).unwrap();
    assert_eq!(content(&gateway.take_descriptor(two).unwrap()), b"two");
    let (of, descriptor) = gateway.recv_descriptor().unwrap().unwrap();
    assert_eq!((of, &content(&descriptor)[..]), (one, &b"one"[..]));
    assert!(
        worker
            .descriptors
            .recv(Duration::from_millis(1))
            .unwrap()
            .is_none()
    );
    let sending = thread::spawn(move || {
        gateway.send_descriptor(one, file(b"three")).unwrap();
        gateway
    });
    let (_, descriptor) = worker.descriptors.recv(LONG).unwrap().unwrap();
    assert_eq!(content(&descriptor), b"three");
    sending.join().unwrap();
}

#[test]
fn full_descriptor_socket_says_so_at_both_ends() {
    let (mut gateway, worker) = pair();
    let id = stream(&gateway, 1);
    let file = file(b"x");
    let full = loop {
        if let Err(error) = gateway.send_descriptor(id, file.as_fd()) {
            break error;
        }
    };
    assert!(matches!(full, DescriptorError::Full));
    let full = loop {
        if let Err(error) = worker.descriptors.send(id, &file, Duration::from_millis(5)) {
            break error;
        }
    };
    assert!(matches!(full, DescriptorError::Full));
}

#[test]
fn dead_worker_is_noticed_by_its_socket() {
    let LinkParts {
        memory,
        gateway_doorbell,
        worker_doorbell,
        gateway_side,
        worker_side,
    } = LinkParts::create(SMALL).unwrap();
    let mut gateway =
        GatewayEnd::attach(memory, gateway_doorbell, worker_doorbell, gateway_side).unwrap();
    drop(worker_side);
    wait_readable(gateway.descriptor_socket());
    let gone = gateway.recv_descriptor();
    assert!(matches!(gone, Err(DescriptorError::PeerGone)));
}

#[test]
fn waits_end_in_time_by_interruption_and_for_good() {
    let (_gateway, worker) = pair();
    let waiter = worker.requests.waiter();
    assert_eq!(waiter.wait(Duration::from_millis(1)), WaitOutcome::TimedOut);
    worker.waker.interrupt();
    assert_eq!(waiter.wait(LONG), WaitOutcome::Interrupted);
    assert_eq!(waiter.wait(Duration::from_millis(1)), WaitOutcome::TimedOut);
    assert_eq!(
        worker.events.wait(LONG),
        WaitOutcome::Interrupted,
        "each waiter gets it once"
    );

    let threads: Vec<_> = (0..3)
        .map(|_| {
            let waiter = worker.requests.waiter();
            thread::spawn(move || waiter.wait(LONG))
        })
        .collect();
    worker.waker.end();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), WaitOutcome::Ended);
    }
    assert!(worker.waker.has_ended());
    assert_eq!(waiter.wait(LONG), WaitOutcome::Ended);
    assert_eq!(worker.responses.wait_room(1, LONG), WaitOutcome::Ended);
}

#[test]
fn thread_that_leaves_passes_its_wake_up_on() {
    let (mut gateway, worker) = pair();
    let waiter = worker.requests.waiter();
    let other = worker.requests.waiter();
    let waiting = thread::spawn(move || other.wait(LONG));
    gateway.place_request(stream(&gateway, 1), 0, b"").unwrap();
    assert_eq!(waiter.wait(LONG), WaitOutcome::Ready);
    waiter.pass_on();
    assert_eq!(waiting.join().unwrap(), WaitOutcome::Ready);
}

#[test]
fn events_handed_out_wake_all_who_wait_and_who_is_about_to() {
    let (_gateway, worker) = pair();
    let late = worker.events.waiter();
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let waiter = worker.events.waiter();
            thread::spawn(move || waiter.wait(LONG))
        })
        .collect();
    worker.events.waiter().hand_out();
    for thread in waiting {
        assert_eq!(thread.join().unwrap(), WaitOutcome::Ready);
    }
    assert_eq!(late.wait(LONG), WaitOutcome::Ready);
    assert_eq!(late.wait(Duration::ZERO), WaitOutcome::TimedOut, "once");
}
