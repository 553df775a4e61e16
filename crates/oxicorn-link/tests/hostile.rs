//! A worker that writes whatever it likes wherever it likes into the shared memory: the gateway's
//! end never panics, never reaches beyond its memory, never spins, never sleeps on its own work, and
//! says what is wrong. The other way round the worker's end survives too.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use oxicorn_link::wire::{EventKind, HeaderList, RequestView, ResponseKind, ResponseView};
use oxicorn_link::*;
use oxicorn_os::mapping::Mapping;
use support::*;

/// A small generator of numbers: seeded, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Numbers near the limits are more often interesting than others.
    fn interesting(&mut self, before: u64) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => before.wrapping_add(8),
            3 => before.wrapping_sub(8),
            4 => before ^ 1 << self.below(64),
            5 => before.wrapping_add(4096),
            6 => self.below(10_000),
            _ => self.next(),
        }
    }
}

struct Scribbler {
    memory: Mapping,
    random: Random,
}

impl Scribbler {
    fn new(memory: &OwnedFd, seed: u64) -> Self {
        let memory = Mapping::new(memory).unwrap();
        Self {
            memory,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        }
    }

    /// Changes one word: those that matter more often than their number would have it.
    fn scribble(&mut self) {
        let len = self.memory.len() as u64;
        let at = match self.random.below(3) {
            0 => self.random.below(13) * 128,
            1 => self.random.below(4096 / 8) * 8,
            _ => self.random.below(len / 8) * 8,
        };
        let at = usize::try_from(at).unwrap();
        let word = self.memory.atomic_u64(at);
        let changed = self.random.interesting(word.load(Ordering::Relaxed));
        word.store(changed, Ordering::Relaxed);
    }
}

/// Does everything a gateway does, once.
fn drive_gateway(gateway: &mut GatewayEnd, payload: &mut Vec<u8>) -> Result<(), LinkFault> {
    let id = StreamId::new(gateway.epoch(), 0, 1);
    if let Ok(placement) = gateway.place_request(id, 0, &[1; 100]) {
        gateway.is_claimed(placement);
        gateway.revoke(placement);
    }
    let _ = gateway.place_request(id, 0, &[1; 1000]);
    let _ = gateway.send_event(EventKind::BodyChunk, id, 0, &[2; 300]);
    // Bounded, as the real one is: a worker may produce nonsense without end.
    for _ in 0..100 {
        let Some(header) = gateway.next_response()? else {
            break;
        };
        payload.clear();
        gateway.payload_into(0..header.len, payload);
        assert_eq!(payload.len(), header.len);
        assert!(header.len <= 4096);
        let _ = ResponseView::decode(payload);
        let _ = HeaderList::decode(payload);
        gateway.release();
    }
    if gateway.sleep_begin() {
        gateway.sleep_end();
    }
    Ok(())
}

fn drive_worker(worker: &mut WorkerParts, payload: &mut Vec<u8>) {
    for _ in 0..100 {
        let Some(request) = worker.requests.try_claim(payload) else {
            break;
        };
        let _ = RequestView::decode(payload);
        let kind = ResponseKind::Head;
        let _ = worker
            .responses
            .try_send(kind, request.stream, 0, &[3; 200], b"");
    }
    for _ in 0..100 {
        if worker.events.try_next(payload).is_none() {
            break;
        }
    }
    worker.requests.has_pending();
    worker.events.has_pending();
}

#[test]
fn gateway_survives_scribbling_between_its_steps() {
    let mut faults = 0;
    for seed in 0..400 {
        let parts = LinkParts::create(SMALL).unwrap();
        let mut gateway = gateway(&parts);
        let mut worker = worker(&parts, WaitMode::Futex);
        let mut scribbler = Scribbler::new(&parts.memory, seed);
        let mut payload = Vec::new();
        for _ in 0..50 {
            drive_worker(&mut worker, &mut payload);
            for _ in 0..seed % 20 {
                scribbler.scribble();
            }
            if let Err(fault) = drive_gateway(&mut gateway, &mut payload) {
                faults += 1;
                assert_eq!(
                    gateway.next_response(),
                    Err(fault),
                    "seed {seed}: a fault stays"
                );
                assert!(
                    gateway.sleep_begin(),
                    "seed {seed}: nothing to read after a fault"
                );
                break;
            }
        }
    }
    assert!(faults > 100, "the scribbling did hit: {faults}");
}

#[test]
fn gateway_survives_scribbling_at_any_moment() {
    for seed in 0..20 {
        let parts = LinkParts::create(SMALL).unwrap();
        let mut gateway = gateway(&parts);
        let mut worker = worker(&parts, WaitMode::Futex);
        let stop = Arc::new(AtomicBool::new(false));
        let scribbling = {
            let mut scribbler = Scribbler::new(&parts.memory, seed);
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    scribbler.scribble();
                }
            })
        };
        let mut payload = Vec::new();
        for _ in 0..300 {
            drive_worker(&mut worker, &mut payload);
            if drive_gateway(&mut gateway, &mut payload).is_err() {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        scribbling.join().unwrap();
    }
}

#[test]
fn both_ends_attach_to_scribbled_memory_or_refuse_it() {
    let mut refused = 0;
    for seed in 0..400 {
        let parts = LinkParts::create(SMALL).unwrap();
        let mut scribbler = Scribbler::new(&parts.memory, seed);
        for _ in 0..seed % 40 * 10 {
            scribbler.scribble();
        }
        let [memory, gateway_doorbell, worker_doorbell, side] = parts.for_gateway().unwrap();
        let mut payload = Vec::new();
        match GatewayEnd::attach(memory, gateway_doorbell, worker_doorbell, side) {
            Ok(mut gateway) => {
                let _ = drive_gateway(&mut gateway, &mut payload);
            }
            Err(_) => refused += 1,
        }
        let [memory, gateway_doorbell, worker_doorbell, side] = parts.for_gateway().unwrap();
        let mode = WaitMode::Futex;
        match WorkerEnd::attach(memory, gateway_doorbell, worker_doorbell, side, mode) {
            Ok(worker) => drive_worker(&mut worker.split(), &mut payload),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 50, "the scribbling did hit: {refused}");
}

/// The words for sleeping and waking are the worker's to spoil; a gateway that finds the worst in
/// them pays system calls, not its life.
#[test]
fn spoilt_bells_cost_system_calls_only() {
    let parts = LinkParts::create(SMALL).unwrap();
    let mut gateway = gateway(&parts);
    let mut worker = worker(&parts, WaitMode::Futex);
    let memory = Mapping::new(&parts.memory).unwrap();
    for at in (1024..4096).step_by(8) {
        memory.atomic_u64(at).store(u64::MAX, Ordering::Relaxed);
    }
    let id = StreamId::new(gateway.epoch(), 0, 1);
    let mut payload = Vec::new();
    for _ in 0..1000 {
        gateway.place_request(id, 0, b"request").unwrap();
        worker.requests.try_claim(&mut payload).unwrap();
        worker
            .responses
            .try_send(ResponseKind::Head, id, 0, b"response", b"")
            .unwrap();
        assert_eq!(gateway.next_response().unwrap().unwrap().len, 8);
        gateway.release();
        assert!(gateway.sleep_begin());
    }
}

#[test]
fn unknown_kind_is_a_fault() {
    let parts = LinkParts::create(SMALL).unwrap();
    let mut gateway = gateway(&parts);
    let mut worker = worker(&parts, WaitMode::Futex);
    let id = StreamId::new(gateway.epoch(), 0, 1);
    worker
        .responses
        .try_send(ResponseKind::Head, id, 0, b"", b"")
        .unwrap();
    // The kind of the first message in the ring of responses.
    let memory = Mapping::new(&parts.memory).unwrap();
    let word = memory.atomic_u64(4096 + 4096 + 4096);
    word.store(200 << 32, Ordering::Relaxed);
    assert_eq!(gateway.next_response(), Err(LinkFault::Kind));
    assert_eq!(gateway.next_response(), Err(LinkFault::Kind));
    assert!(gateway.sleep_begin());
}
