//! Messages as files: `corpus/{accept,reject}/NNN-slug.http` are the bytes of one connection,
//! `.expect` beside each is what must be made of them, `.rules` (if any) the rules that differ from
//! the default.
//!
//! `corpus/proxy/NNN-MODE-slug.bytes` are the first bytes of a connection where that mode of the PROXY
//! protocol is on. `corpus/README.md` names the published attacks among all of them.
//!
//! `corpus/uwsgi/NNN-slug.bytes` are the first bytes of a connection that speaks uwsgi.
//!
//! `corpus/fastcgi/NNN-slug.bytes` are those of one that speaks FastCGI, `corpus/scgi/NNN-slug.bytes` of one that speaks SCGI.
//!
//! `OXICORN_UPDATE_CORPUS=1` writes the `.expect` files anew; review the difference.

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use oxicorn_proto::PeerFault;
use oxicorn_proto::cgi::{Pass, Request};
use oxicorn_proto::fastcgi::{self, Decoder};
use oxicorn_proto::proxy_protocol::{Mode, Parsed, parse};
use oxicorn_proto::scgi::Head;
use oxicorn_proto::uwsgi::Packet;
use support::{play, rules_of};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// The files of a kind with this extension, in the order of their names.
fn files(kind: &str, wanted: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder().join(kind))
        .expect("the corpus is there")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == wanted)
        })
        .collect();
    files.sort();
    files
}

fn play_file(file: &Path) -> String {
    let (rules, trusted) =
        rules_of(&fs::read_to_string(file.with_extension("rules")).unwrap_or_default());
    let bytes = fs::read(file).expect("a readable message");
    play(&rules, trusted, [&bytes[..]])
}

/// Compares every file of a kind with its expectation; all differences are shown at once.
fn check(kind: &str, extension: &str, play: impl Fn(&Path) -> String, sound: fn(&str) -> bool) {
    let mut differences = String::new();
    for file in files(kind, extension) {
        let transcript = play(&file);
        assert!(
            sound(&transcript),
            "{} is in the wrong folder:\n{transcript}",
            file.display()
        );
        let expect = file.with_extension("expect");
        if std::env::var_os("OXICORN_UPDATE_CORPUS").is_some() {
            fs::write(&expect, &transcript).expect("a writable corpus");
        }
        let expected = fs::read_to_string(&expect).unwrap_or_default();
        if transcript != expected {
            let _ = writeln!(
                differences,
                "{}\n--- expected\n{expected}--- seen\n{transcript}",
                file.display()
            );
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn accepted_messages_are_read_as_expected() {
    check("accept", "http", play_file, |transcript| {
        !transcript.contains("fault")
    });
}

#[test]
fn refused_messages_have_their_fault() {
    check("reject", "http", play_file, |transcript| {
        transcript
            .lines()
            .last()
            .is_some_and(|last| last.starts_with("fault"))
    });
}

/// What is made of a connection's first bytes; the same, or `NeedMore`, of every beginning of them.
fn play_proxy(file: &Path) -> String {
    let name = file.file_stem().and_then(|stem| stem.to_str());
    let mode = match name.and_then(|name| name.split('-').nth(1)) {
        Some("v1") => Mode::V1,
        Some("v2") => Mode::V2,
        Some("auto") => Mode::Auto,
        _ => panic!("no mode in the name: {}", file.display()),
    };
    let bytes = fs::read(file).expect("readable bytes");
    let whole = parse(&bytes, mode);
    for len in 0..bytes.len() {
        let part = parse(&bytes[..len], mode);
        assert!(part == Ok(Parsed::NeedMore) || part == whole, "{len}");
    }
    match whole {
        Ok(parsed) => format!("{parsed:?}\n"),
        Err(fault) => format!("fault {fault:?} {} {}\n", fault.status(), fault.reason()),
    }
}

#[test]
fn proxy_headers_are_read_as_expected() {
    check("proxy", "bytes", play_proxy, |_| true);
}

fn play_uwsgi(file: &Path) -> String {
    play_variables(file, |bytes| match Packet::read(bytes)? {
        Some(packet) => {
            Request::read(packet.variables(), Pass::All).map(|read| Some((packet.len, read)))
        }
        None => Ok(None),
    })
}

fn play_scgi(file: &Path) -> String {
    play_variables(file, |bytes| match Head::read(bytes, 100_000)? {
        Some(head) => {
            Request::read(head.variables(), Pass::Usual).map(|read| Some((head.len, read)))
        }
        None => Ok(None),
    })
}

/// What is made of the variables at the front; nothing is made of any beginning of good ones.
fn play_variables(
    file: &Path,
    read: impl Fn(&[u8]) -> Result<Option<(usize, Request)>, PeerFault>,
) -> String {
    let bytes = fs::read(file).expect("readable bytes");
    let whole = read(&bytes);
    for len in 0..bytes.len() {
        let part = read(&bytes[..len]);
        assert!(part == Ok(None) || part == whole, "{len}");
    }
    match whole {
        Ok(Some((len, request))) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace('\r', "");
            let (head, path) = (text(&request.head), text(&request.path));
            let (mount, client) = (text(&request.script_name), request.client);
            format!("{len} bytes\npath {path}\nmount {mount}\nclient {client:?}\n{head}")
        }
        Ok(None) => "need more\n".into(),
        Err(fault) => format!("fault {fault:?} {} {}\n", fault.status(), fault.reason()),
    }
}

#[test]
fn uwsgi_packets_are_read_as_expected() {
    check("uwsgi", "bytes", play_uwsgi, |_| true);
}

#[test]
fn scgi_heads_are_read_as_expected() {
    check("scgi", "bytes", play_scgi, |_| true);
}

/// What is made of the records, whole and byte by byte.
fn play_fastcgi(file: &Path) -> String {
    let bytes = fs::read(file).expect("readable bytes");
    let whole = play_records(&mut [&bytes[..]].into_iter());
    assert_eq!(play_records(&mut bytes.chunks(1)), whole);
    whole
}

fn play_records(pieces: &mut dyn Iterator<Item = &[u8]>) -> String {
    let mut decoder = Decoder::new(100_000);
    let (mut waiting, mut body, mut seen) = (Vec::new(), Vec::new(), String::new());
    for piece in pieces {
        waiting.extend_from_slice(piece);
        loop {
            let (used, event) = match decoder.poll(&waiting) {
                Ok(polled) => polled,
                Err(fault) => {
                    return format!(
                        "{seen}fault {fault:?} {} {}\n",
                        fault.status(),
                        fault.reason()
                    );
                }
            };
            match &event {
                fastcgi::Event::NeedMore => {}
                fastcgi::Event::Variables => {
                    let variables = decoder.variables().expect("lengths that fit");
                    let request = Request::read(variables, Pass::Usual).expect("a request");
                    let head = String::from_utf8_lossy(&request.head).replace('\r', "");
                    let path = String::from_utf8_lossy(&request.path).into_owned();
                    let _ = write!(seen, "path {path}\n{head}");
                }
                fastcgi::Event::Body(range) => body.extend_from_slice(&waiting[range.clone()]),
                fastcgi::Event::BodyEnd => {
                    let _ = writeln!(seen, "body {:?}", String::from_utf8_lossy(&body));
                }
            }
            waiting.drain(..used);
            if event == fastcgi::Event::NeedMore {
                break;
            }
        }
    }
    seen
}

#[test]
fn fastcgi_records_are_read_as_expected() {
    check("fastcgi", "bytes", play_fastcgi, |_| true);
}

#[test]
fn every_fault_has_a_message_that_shows_it() {
    let mut seen = String::new();
    for kind in ["reject", "proxy", "uwsgi", "fastcgi", "scgi"] {
        for file in files(kind, "expect") {
            seen += &fs::read_to_string(file).expect("a readable expectation");
        }
    }
    for fault in PeerFault::ALL {
        let line = format!("fault {fault:?} {}", fault.status());
        assert!(seen.contains(&line), "no message for {fault:?}");
    }
}

/// The table of published attacks names files that are there, under the folder their answer says.
#[test]
fn published_attacks_are_in_the_corpus() {
    let table = fs::read_to_string(folder().join("README.md")).expect("the table");
    let mut named = 0;
    for word in table.split('`') {
        let Some((kind @ ("accept" | "reject"), number)) = word.split_once('/') else {
            continue;
        };
        if number.is_empty() {
            continue;
        }
        let start = format!("{number}-");
        let there = files(kind, "http").into_iter().any(|file| {
            file.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&start))
        });
        assert!(there, "{word} is not in the corpus");
        named += 1;
    }
    assert!(named > 60, "only {named} messages are named");
}
