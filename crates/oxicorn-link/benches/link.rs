//! What the link costs: each hot operation by itself, then two threads that talk to each other.
//!
//! cargo bench -p oxicorn-link
//!
//! The first figures are of one thread that plays both ends, so everything is in its cache: they
//! are the instructions' share. "One way" and "ping-pong" are of two threads, with the traffic
//! between the processors' caches, and with sleeping and waking where that happens.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program that prints figures"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use oxicorn_link::wire::{
    Address, BodyPlace, RequestEncoder, RequestHead, RequestView, ResponseEncoder, ResponseHead,
    ResponseKind, ResponseView, Scheme, Version, flags,
};
use oxicorn_link::{
    GatewayEnd, LinkParts, Requests, Responses, Sizes, StreamId, WaitMode, WaitOutcome, WorkerEnd,
    WorkerParts,
};

const LONG: Duration = Duration::from_secs(10);
const ROUNDS: u32 = 2_000_000;
/// Fewer where each is a round trip between threads.
const TRIPS: u32 = 200_000;

fn main() {
    let request = hello_request();
    let response = hello_response();
    println!(
        "request of {} bytes, response head of {}",
        request.len(),
        response.len()
    );
    wire(&request, &response);
    each_operation(&request, &response);
    one_way(&request);
    ping_pong(&request, &response, 1);
    ping_pong(&request, &response, 16);
    big_bodies();
}

fn pair() -> (GatewayEnd, WorkerParts) {
    let parts = LinkParts::create(Sizes::default()).unwrap();
    let [memory, gateway_doorbell, worker_doorbell, side] = parts.for_gateway().unwrap();
    let gateway = GatewayEnd::attach(memory, gateway_doorbell, worker_doorbell, side).unwrap();
    let LinkParts {
        memory,
        gateway_doorbell,
        worker_doorbell,
        worker_side,
        ..
    } = parts;
    let mode = WaitMode::Futex;
    let worker =
        WorkerEnd::attach(memory, gateway_doorbell, worker_doorbell, worker_side, mode).unwrap();
    (gateway, worker.split())
}

const HEADERS: [(&[u8], &[u8]); 10] = [
    (b"Host", b"www.example.org"),
    (
        b"User-Agent",
        b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ),
    (
        b"Accept",
        b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ),
    (b"Accept-Language", b"en-US,en;q=0.5"),
    (b"Accept-Encoding", b"gzip, deflate, br, zstd"),
    (b"Connection", b"keep-alive"),
    (b"Upgrade-Insecure-Requests", b"1"),
    (b"Sec-Fetch-Dest", b"document"),
    (b"Sec-Fetch-Mode", b"navigate"),
    (b"Cache-Control", b"max-age=0"),
];

fn encode_request(out: &mut Vec<u8>) {
    out.clear();
    let head = RequestHead {
        version: Version::Http11,
        scheme: Scheme::Http,
        method: b"GET",
        request_target: b"/hello?name=world",
        path: b"/hello",
        query_string: b"name=world",
        client: Address::Ip {
            host: b"127.0.0.1",
            port: 50_000,
        },
        server: Address::Ip {
            host: b"127.0.0.1",
            port: 8000,
        },
        proxy: None,
        body: BodyPlace::None,
        deadline_ms: 30_000,
        queued_us: 10,
    };
    let mut encoder = RequestEncoder::begin(out, &head);
    for (name, value) in HEADERS {
        encoder.header(name, value);
    }
    encoder.finish(b"");
}

fn hello_request() -> Vec<u8> {
    let mut out = Vec::new();
    encode_request(&mut out);
    out
}

fn encode_response(out: &mut Vec<u8>) {
    out.clear();
    let mut encoder = ResponseEncoder::begin(
        out,
        &ResponseHead {
            status: 200,
            reason: b"OK",
        },
    );
    encoder.header(b"Content-Type", b"text/plain; charset=utf-8");
    encoder.header(b"Content-Length", b"13");
    encoder.finish();
}

fn hello_response() -> Vec<u8> {
    let mut out = Vec::new();
    encode_response(&mut out);
    out
}

fn report(what: &str, rounds: u32, taken: Duration) {
    println!(
        "{what:<44} {:>9.1} ns",
        taken.as_secs_f64() * 1e9 / f64::from(rounds)
    );
}

fn time(what: &str, mut action: impl FnMut()) {
    let best = (0..5)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..ROUNDS / 5 {
                action();
            }
            began.elapsed()
        })
        .min()
        .unwrap();
    report(what, ROUNDS / 5, best);
}

fn wire(request: &[u8], response: &[u8]) {
    let mut out = Vec::new();
    time("wire: encode request, ten headers", || {
        encode_request(black_box(&mut out));
    });
    time("wire: decode request, all headers", || {
        let view = RequestView::decode(black_box(request)).unwrap();
        for header in &view.headers {
            black_box(header);
        }
    });
    time("wire: encode response head", || {
        encode_response(black_box(&mut out));
    });
    time("wire: decode response head", || {
        black_box(ResponseView::decode(black_box(response)).unwrap());
    });
}

/// Times the parts of an exchange by leaving out one after the other.
fn each_operation(request: &[u8], response: &[u8]) {
    let (mut gateway, mut worker) = pair();
    let id = StreamId::new(gateway.epoch(), 0, 1);
    let mut payload = Vec::with_capacity(4096);
    for (what, payload_in) in [("empty", &b""[..]), ("hello", request)] {
        time(&format!("place_request + try_claim, {what}"), || {
            black_box(gateway.place_request(id, 0, payload_in).unwrap());
            black_box(worker.requests.try_claim(&mut payload).unwrap());
        });
    }
    let mut gathered = Vec::with_capacity(4096);
    for (what, head) in [("empty", &b""[..]), ("hello", response)] {
        time(
            &format!("try_send + next_response + release, {what}"),
            || {
                let kind = ResponseKind::Head;
                worker
                    .responses
                    .try_send(kind, id, flags::END, head, b"Hello, World!")
                    .unwrap();
                let header = gateway.next_response().unwrap().unwrap();
                gathered.clear();
                gateway.payload_into(0..header.len, &mut gathered);
                gateway.release();
            },
        );
    }
    batches(&mut gateway, &mut worker, request, response);
    time("place_request + revoke + skip", || {
        let placement = gateway.place_request(id, 0, b"").unwrap();
        assert!(gateway.revoke(placement));
        assert!(worker.requests.try_claim(&mut payload).is_none());
    });
    time("next_response, nothing there", || {
        assert!(gateway.next_response().unwrap().is_none());
    });
    time("sleep_begin + sleep_end", || {
        assert!(gateway.sleep_begin());
        gateway.sleep_end();
    });
}

/// Each operation many times in a row, so that each has its own figure.
fn batches(gateway: &mut GatewayEnd, worker: &mut WorkerParts, request: &[u8], response: &[u8]) {
    const BATCH: u32 = 128;
    let id = StreamId::new(gateway.epoch(), 0, 1);
    let mut payload = Vec::with_capacity(4096);
    let mut taken = [Duration::ZERO; 4];
    for _ in 0..ROUNDS / BATCH {
        let began = Instant::now();
        for _ in 0..BATCH {
            gateway.place_request(id, 0, request).unwrap();
        }
        let placed = Instant::now();
        for _ in 0..BATCH {
            worker.requests.try_claim(&mut payload).unwrap();
        }
        let claimed = Instant::now();
        for _ in 0..BATCH {
            let kind = ResponseKind::Head;
            worker
                .responses
                .try_send(kind, id, flags::END, response, b"Hello, World!")
                .unwrap();
        }
        let sent = Instant::now();
        for _ in 0..BATCH {
            let header = gateway.next_response().unwrap().unwrap();
            payload.clear();
            gateway.payload_into(0..header.len, &mut payload);
            gateway.release();
        }
        let spans = [
            placed - began,
            claimed - placed,
            sent - claimed,
            sent.elapsed(),
        ];
        taken
            .iter_mut()
            .zip(spans)
            .for_each(|(sum, span)| *sum += span);
    }
    let names = [
        "place_request",
        "try_claim",
        "try_send",
        "next_response + payload + release",
    ];
    for (name, taken) in names.iter().zip(taken) {
        report(
            &format!("in a row, hello: {name}"),
            ROUNDS / BATCH * BATCH,
            taken,
        );
    }
}

fn one_way(request: &[u8]) {
    let (mut gateway, worker) = pair();
    let id = StreamId::new(gateway.epoch(), 0, 1);
    let mut requests = worker.requests;
    let claiming = std::thread::spawn(move || {
        let mut payload = Vec::new();
        for _ in 0..ROUNDS {
            while requests.try_claim(&mut payload).is_none() {
                requests.wait(LONG);
            }
        }
    });
    let began = Instant::now();
    for _ in 0..ROUNDS {
        while gateway.place_request(id, 0, request).is_err() {
            std::hint::spin_loop();
        }
    }
    claiming.join().unwrap();
    report("one way, two threads", ROUNDS, began.elapsed());
}

fn serve(mut requests: Requests, mut responses: Responses, response: &[u8]) {
    let mut payload = Vec::new();
    for _ in 0..TRIPS {
        let request = loop {
            if let Some(request) = requests.try_claim(&mut payload) {
                break request;
            }
            assert_eq!(requests.wait(LONG), WaitOutcome::Ready);
        };
        let kind = ResponseKind::Head;
        responses
            .try_send(kind, request.stream, flags::END, response, b"Hello")
            .unwrap();
    }
}

/// Both ends sleep when they have nothing to do, as they do in a server.
fn ping_pong(request: &[u8], response: &[u8], at_a_time: u32) {
    let (mut gateway, worker) = pair();
    let WorkerParts {
        requests,
        responses,
        ..
    } = worker;
    let id = StreamId::new(gateway.epoch(), 0, 1);
    let head = response.to_vec();
    let serving = std::thread::spawn(move || serve(requests, responses, &head));
    let began = Instant::now();
    let (mut placed, mut answered) = (0, 0);
    let mut payload = Vec::new();
    while answered < TRIPS {
        while placed < TRIPS && placed - answered < at_a_time {
            gateway.place_request(id, 0, request).unwrap();
            placed += 1;
        }
        while let Some(header) = gateway.next_response().unwrap() {
            payload.clear();
            gateway.payload_into(0..header.len, &mut payload);
            gateway.release();
            answered += 1;
        }
        if answered < placed {
            sleep(&gateway);
        }
    }
    report(
        &format!("ping-pong, {at_a_time} at a time"),
        TRIPS,
        began.elapsed(),
    );
    serving.join().unwrap();
}

fn sleep(gateway: &GatewayEnd) {
    if gateway.sleep_begin() {
        oxicorn_os::poll::wait_readable(&[gateway.doorbell()], Some(LONG)).unwrap();
        gateway.silence_doorbell();
    }
    gateway.sleep_end();
}

fn big_bodies() {
    const CHUNK: usize = 64 << 10;
    const CHUNKS: u32 = 20_000;
    let (mut gateway, worker) = pair();
    let mut responses = worker.responses;
    let id = StreamId::new(gateway.epoch(), 0, 1);
    let writing = std::thread::spawn(move || {
        let chunk = vec![7; CHUNK];
        for _ in 0..CHUNKS {
            while responses
                .try_send(ResponseKind::BodyChunk, id, 0, b"", &chunk)
                .is_err()
            {
                responses.wait_room(CHUNK, LONG);
            }
        }
    });
    let began = Instant::now();
    let mut payload = Vec::new();
    let mut read = 0;
    while read < CHUNKS {
        while let Some(header) = gateway.next_response().unwrap() {
            payload.clear();
            gateway.payload_into(0..header.len, &mut payload);
            gateway.release();
            read += 1;
        }
        if read < CHUNKS {
            sleep(&gateway);
        }
    }
    report("chunk of 64 KiB, two threads", CHUNKS, began.elapsed());
    writing.join().unwrap();
}
