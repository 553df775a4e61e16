//! The fuzz targets on a stable toolchain: seeds, kept inputs, and seeded mutations of both. The
//! number of mutations a target: `OXICORN_FUZZ_ROUNDS`; another seed: `OXICORN_FUZZ_SEED`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use oxicorn_fuzz::{TARGETS, Target, kept, seeds};

const ROUNDS: usize = 15_000;
const SEED: u64 = 0x6f78_6963_6f72_6e04;
/// Longer inputs cost more than they show.
const LENGTH_MAX: usize = 2000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number"))
    })
}

fn run(name: &str, target: Target, input: &[u8], origin: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    assert!(
        outcome.is_ok(),
        "{name} broke ({origin}) on \"{}\"",
        input.escape_ascii()
    );
}

/// The inputs as they are, then changed ones.
fn replay(name: &str) {
    let (_, target) = TARGETS
        .into_iter()
        .find(|(known, _)| *known == name)
        .expect("a target");
    let pool = [seeds::of(name), kept::read(name)].concat();
    for input in &pool {
        run(name, target, input, "kept");
    }
    let seed = number("OXICORN_FUZZ_SEED").unwrap_or(SEED);
    let mut random = Random(seed | 1);
    let rounds = number("OXICORN_FUZZ_ROUNDS").map_or(ROUNDS, |rounds| {
        usize::try_from(rounds).expect("a number of rounds")
    });
    for round in 0..rounds {
        let input = mutate(&pool, &mut random);
        run(name, target, &input, &format!("seed {seed} round {round}"));
    }
}

#[test]
fn request_head_holds() {
    replay("request_head");
}

#[test]
fn chunked_body_holds() {
    replay("chunked_body");
}

#[test]
fn connection_ops_holds() {
    replay("connection_ops");
}

#[test]
fn proxy_protocol_holds() {
    replay("proxy_protocol");
}

#[test]
fn header_trust_holds() {
    replay("header_trust");
}

#[test]
fn uwsgi_packet_holds() {
    replay("uwsgi_packet");
}

#[test]
fn fastcgi_records_holds() {
    replay("fastcgi_records");
}

#[test]
fn scgi_head_holds() {
    replay("scgi_head");
}

#[test]
fn pool_frames_holds() {
    replay("pool_frames");
}

#[test]
fn websocket_frames_holds() {
    replay("websocket_frames");
}

/// What a smuggler writes: put in anywhere.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b":",
    b";",
    b",",
    b"\"",
    b"_",
    b"0",
    b"\xff",
    b"\r\n ",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"1\r\nx\r\n",
    b"ffffffffffffffff\r\n",
    b";a=\"b\"",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: x, chunked\r\n",
    b"Host: a\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\n",
    b"SCRIPT_NAME: /x\r\n",
    b"X-Forwarded-Proto: https\r\n",
    b"GET / HTTP/1.1\r\n",
    b"http://a/",
    b"HTTP/1.0",
    b"PROXY TCP4 ",
    b"\r\n\r\n\0\r\nQUIT\n",
];

/// One input of the pool with one to four changes.
fn mutate(pool: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(pool).clone();
    for _ in 0..=random.below(4) {
        change(&mut input, pool, random);
    }
    input.truncate(LENGTH_MAX);
    input
}

fn change(input: &mut Vec<u8>, pool: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = (at + 1 + random.below(16)).min(input.len());
    match random.below(7) {
        0 => drop(input.splice(at..at, random.pick(WORDS).iter().copied())),
        1 => drop(input.splice(at..end, random.pick(WORDS).iter().copied())),
        2 if at < end => input.truncate(end),
        3 if at < end => drop(input.drain(at..end)),
        4 if at < end => input[at] ^= 1 << random.below(8),
        5 if at < end => {
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        6 => {
            let other = random.pick(pool);
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => input.insert(at, u8::try_from(random.below(256)).expect("a byte")),
    }
}

/// Xorshift: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).expect("64 bits") % bound.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
