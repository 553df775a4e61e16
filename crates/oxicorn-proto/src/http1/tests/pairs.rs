//! Every call in every state: what is possible where, as one table; and what is not possible
//! changes nothing.

use super::*;

/// A way into a state.
type Make = fn() -> Connection;

/// The states of the two directions that can be met together.
const STATES: [(&str, Make); 17] = [
    ("nothing yet", || after(b"")),
    ("half a head", || after(b"GET / HTTP/1.1\r\nHo")),
    ("head faulty", || after(b"GET\r\n")),
    ("length, idle", || after(POST.as_bytes())),
    ("chunked, idle", || after(POST_CHUNKED.as_bytes())),
    ("body faulty, idle", || {
        after(format!("{POST_CHUNKED}x\r\n").as_bytes())
    }),
    ("ending, idle", ending),
    ("done, idle", || after(GET.as_bytes())),
    ("upgrade, idle", || after(UPGRADE.as_bytes())),
    ("http/1.0, idle", || after(GET_10.as_bytes())),
    ("length, sending", || sending(POST, 200)),
    ("done, sending", || sending(GET, 200)),
    ("done, raw", raw),
    ("done, finished", || finished(GET)),
    ("length, finished", || finished(POST)),
    ("closing, finished", || finished(GET_CLOSE)),
    ("switched, sending", || sending(UPGRADE, 101)),
];

fn ending() -> Connection {
    let mut connection = Connection::new(Arc::new(Rules::default()));
    let polled = connection.poll_event(GET.as_bytes()).expect("good");
    assert_eq!(polled.event, Event::Head);
    connection
}

fn sending(request: &str, status: u16) -> Connection {
    let mut connection = after(request.as_bytes());
    let headers: Pairs<'_> = &[(b"Content-Length", b"1"), (b"Upgrade", b"u")];
    connection
        .encode_response_head(&head(status, ""), headers.iter().copied(), &mut Vec::new())
        .expect("good");
    connection
}

fn raw() -> Connection {
    let mut connection = sending(GET, 200);
    connection.body_prefix(1, &mut Vec::new()).expect("good");
    connection
}

fn finished(request: &str) -> Connection {
    let mut connection = sending(request, 200);
    connection.encode_body(b"x", &mut Vec::new()).expect("good");
    connection
        .finish_response([], &mut Vec::new())
        .expect("good");
    connection
}

/// One call; a letter for its outcome, and whether it was a misuse.
type Call = fn(&mut Connection, &mut Vec<u8>) -> Outcome;

enum Outcome {
    Did(&'static str),
    Misused(LocalMisuse),
}

const CALLS: [(&str, Call); 12] = [
    ("poll 0", |connection, _| poll(connection, b"")),
    ("poll 1", |connection, _| poll(connection, b"X")),
    ("eof", |connection, _| {
        Outcome::Did(if connection.handle_eof().is_ok() {
            "ok"
        } else {
            "fault"
        })
    }),
    ("103", |connection, out| {
        outcome(connection.encode_informational(103, [], out))
    }),
    ("head 200", |connection, out| {
        outcome(connection.encode_response_head(&head(200, ""), [], out))
    }),
    ("head 101", |connection, out| {
        let upgrade = [(&b"Upgrade"[..], &b"u"[..])];
        outcome(connection.encode_response_head(&head(101, ""), upgrade, out))
    }),
    ("body", |connection, out| {
        outcome(connection.encode_body(b"x", out))
    }),
    ("prefix", |connection, out| {
        outcome(connection.body_prefix(1, out))
    }),
    ("suffix", |connection, out| {
        outcome(connection.body_suffix(out))
    }),
    ("finish", |connection, out| {
        outcome(connection.finish_response([], out))
    }),
    ("next", |connection, _| {
        outcome(connection.start_next_exchange())
    }),
    ("deny", |connection, _| {
        connection.deny_keep_alive();
        Outcome::Did("ok")
    }),
];

fn poll(connection: &mut Connection, input: &[u8]) -> Outcome {
    Outcome::Did(
        match connection.poll_event(input).map(|polled| polled.event) {
            Ok(Event::NeedMore) => "more",
            Ok(Event::Head) => "head",
            Ok(Event::Body(_)) => "body",
            Ok(Event::BodyEnd) => "end",
            Ok(Event::Paused) => "paused",
            Ok(Event::Switched) => "switched",
            Err(_) => "fault",
        },
    )
}

fn outcome<T>(result: Result<T, LocalMisuse>) -> Outcome {
    result.map_or_else(Outcome::Misused, |_| Outcome::Did("ok"))
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Did(what) => what,
        Outcome::Misused(LocalMisuse::OutOfOrder) => "-",
        Outcome::Misused(LocalMisuse::UpgradeNotRequested) => "unasked",
        Outcome::Misused(LocalMisuse::Incomplete { .. }) => "short",
        Outcome::Misused(other) => panic!("{other}"),
    }
}

/// One line a state: the words for all calls, each made in a fresh connection.
fn table() -> String {
    let line = |state: &str, words: [&str; CALLS.len()]| {
        let words = words.map(|word| format!("{word:>9}")).concat();
        format!("{state:18}{words}\n")
    };
    let mut table = line("", CALLS.map(|(name, _)| name));
    for (state, make) in STATES {
        table += &line(
            state,
            CALLS.map(|(_, call)| word(&call(&mut make(), &mut Vec::new()))),
        );
    }
    table
}

#[test]
fn every_call_in_every_state() {
    let table = table();
    assert_eq!(table, EXPECTED, "seen:\n{table}\n");
}

const EXPECTED: &str = "                     poll 0   poll 1      eof      103 head 200 head 101     body   prefix   suffix   finish     next     deny
nothing yet            more     more       ok        -       ok        -        -        -        -        -        -       ok
half a head            more     more    fault        -       ok        -        -        -        -        -        -       ok
head faulty           fault    fault    fault        -       ok        -        -        -        -        -        -       ok
length, idle           more     body    fault       ok       ok        -        -        -        -        -        -       ok
chunked, idle          more     more    fault       ok       ok        -        -        -        -        -        -       ok
body faulty, idle     fault    fault    fault       ok       ok        -        -        -        -        -        -       ok
ending, idle            end      end       ok       ok       ok  unasked        -        -        -        -        -       ok
done, idle           paused   paused       ok       ok       ok  unasked        -        -        -        -        -       ok
upgrade, idle        paused   paused       ok       ok       ok       ok        -        -        -        -        -       ok
http/1.0, idle       paused   paused       ok       ok       ok  unasked        -        -        -        -        -       ok
length, sending        more     body    fault        -        -        -       ok       ok        -    short        -       ok
done, sending        paused   paused       ok        -        -        -       ok       ok        -    short        -       ok
done, raw            paused   paused       ok        -        -        -        -        -       ok        -        -       ok
done, finished       paused   paused       ok        -        -        -        -        -        -        -       ok       ok
length, finished       more     body    fault        -        -        -        -        -        -        -        -       ok
closing, finished    paused   paused       ok        -        -        -        -        -        -        -        -       ok
switched, sending  switched switched       ok        -        -        -       ok       ok        -       ok        -       ok
";

/// The table has every state of either direction: a new one has to be walked too.
#[test]
fn every_state_is_in_the_table() {
    let seen = |field: &str| {
        let mut names: Vec<String> = STATES
            .iter()
            .map(|(_, make)| {
                let text = format!("{:?}", make());
                let (_, after) = text.split_once(field).expect("a field of the connection");
                after
                    .chars()
                    .take_while(char::is_ascii_alphabetic)
                    .collect()
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    assert_eq!(
        seen("receive: "),
        [
            "Chunked", "Done", "Ending", "Failed", "Head", "Length", "Switched"
        ]
    );
    assert_eq!(seen("send: "), ["Body", "Finished", "Idle", "Raw"]);
}

#[test]
fn misuse_changes_nothing() {
    for (state, make) in STATES {
        for (name, call) in CALLS {
            let mut connection = make();
            let before = format!("{connection:?}");
            let mut out = b"before".to_vec();
            if let Outcome::Misused(_) = call(&mut connection, &mut out) {
                assert_eq!(format!("{connection:?}"), before, "{name} in {state}");
                assert_eq!(out, b"before", "{name} in {state}");
            }
        }
    }
}

/// All sequences of four calls from a fresh start and from a received request: no panic, and no
/// exchange starts before the one before it is through.
#[test]
fn no_order_of_calls_panics() {
    for request in ["", GET, POST, POST_CHUNKED, UPGRADE] {
        for sequence in 0..CALLS.len().pow(4) {
            let mut connection = after(request.as_bytes());
            let mut out = Vec::new();
            let mut rest = sequence;
            for _ in 0..4 {
                let (_, call) = CALLS[rest % CALLS.len()];
                call(&mut connection, &mut out);
                rest /= CALLS.len();
            }
        }
    }
}
