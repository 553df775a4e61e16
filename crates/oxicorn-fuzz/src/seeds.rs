//! What a run starts from: the message corpus of `oxicorn-proto` in the shape each target reads,
//! and a few inputs of their own for those that read something else.

use std::fs;
use std::path::Path;

/// All seeds of `target`: made of the corpus, then those of its own.
///
/// # Panics
/// Without the message corpus in its place in the tree.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = messages()
        .iter()
        .filter_map(|message| from_message(target, message))
        .collect();
    seeds.extend(own(target).iter().map(|seed| seed.to_vec()));
    seeds
}

/// Every message of the corpus, in the order of its name.
fn messages() -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../oxicorn-proto/tests/corpus");
    let mut files: Vec<_> = ["accept", "reject"]
        .iter()
        .flat_map(|kind| fs::read_dir(corpus.join(kind)).expect("the message corpus"))
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "http"))
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| fs::read(file).expect("a readable message"))
        .collect()
}

fn from_message(target: &str, message: &[u8]) -> Option<Vec<u8>> {
    let body = || {
        let end = message.windows(4).position(|four| four == b"\r\n\r\n")?;
        Some(message[end + 4..].to_vec()).filter(|body| !body.is_empty())
    };
    match target {
        "request_head" => Some([b"\x00\x01", message].concat()),
        "chunked_body" => body(),
        "connection_ops" => Some(operations(message)),
        "header_trust" => Some([&[0; 13][..], b"\x7f\0\0\x01127.0.0.1,::1\n", message].concat()),
        _ => None,
    }
}

/// The message in pieces of an operation each, then an answer of the application.
fn operations(message: &[u8]) -> Vec<u8> {
    let mut operations = Vec::new();
    for piece in message.chunks(200) {
        let length = u8::try_from(piece.len()).expect("at most 200");
        operations.extend([0, length]);
        operations.extend(piece);
        operations.extend([2, 0]);
    }
    operations.extend(b"\x02\x00\x02\x00\x66\x04X-Ay\x07\x02hi\x0a\x00\x0b\x00");
    operations
}

fn own(target: &str) -> &'static [&'static [u8]] {
    match target {
        "proxy_protocol" => &[
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET",
            b"PROXY TCP6 ::1 2001:db8::ff 65535 80\r\n",
            b"PROXY UNKNOWN ::1 x\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x01\x01\x01\x02\x02\x02\x02\0\x01\0\x02",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\x01\x01\x01\x01\x02\x02\x02\x02\0\x01\0\x02\x04\0\x02\0\0\x20\0\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\x07\0\x09",
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
            b"GET / HTTP/1.1\r\n",
        ],
        "header_trust" => &[
            b"\x10\0\0\0\0\0\0\0\0\0\0\0\0\x0a\x01\x02\x0310.1.0.0/16, 2001:db8::/32\nGET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\nREMOTE_USER: x\r\nForwarded_Scheme: https\r\n\r\n",
            b"\x0d\0\0\0\0\0\0\0\0\0\0\0\0\x0a\x01\x02\x03*\nGET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: on\r\nX-Forwarded-Protocol: ssl\r\n\r\n",
            b"\x12\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x012001:db8::/33,1.2.3.4/99,::ffff:1.2.3.4\nGET / HTTP/1.1\r\nHost: a\r\nX_A: b\r\n\r\n",
        ],
        "pool_frames" => &[
            b"GD\x01\x01\0\0\0\x05\x01\x02\x03\x04\x05\x06\x07\x08\x21\0\0\0\0",
            b"GD\x01\x84\0\0\0\0\0\0\0\0\0\0\0\x01",
            b"\x21\0\0\0\x02\x11\0\0\0\x01a\x20\0\0\0\x04\x05\xff\xff\xff\xff\xff\xff\xff\xfe\x06\x3f\xf8\0\0\0\0\0\0\0\x21\0\0\0\0\x11\0\0\0\x02\xc3\xbc\x20\0\0\0\x03\x01\x01\x10\0\0\0\x02x\0\x20\0\0\0\0",
            b"\x21\0\0\0\x02\x11\0\0\0\x08app_path\x11\0\0\0\x03m:A\x11\0\0\0\x06action\x11\0\0\0\x01f",
            b"\x21\0\0\0\x04\x11\0\0\0\x01a\x22\0\0\0\x03\x07\0\0\0\x09123456789\x05\0\0\0\0\0\0\0\x01\x00\x11\0\0\0\x01b\x23\0\0\0\x01\x05\0\0\0\0\0\0\0\x01\x12\0\0\0\x02xy\x11\0\0\0\x01c\x24\x11\0\0\0\x01d\x20\0\0\0\0\x30\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x11\0\0\0\x01d\x31\x10\0\0\0\x01p\x20\0\0\0\x01\x01\x01",
        ],
        "uwsgi_packet" => &[
            b"\0\x3b\0\0\x0e\0REQUEST_METHOD\x03\0GET\x0b\0REQUEST_URI\x06\0/a%20b\x09\0PATH_INFO\x04\0/a b",
            b"\0\x2e\0\0\x0b\0SCRIPT_NAME\x02\0/a\x09\0PATH_INFO\x02\0/b\x09\0HTTP_HOST\x01\0h",
            b"\0\x32\0\0\x0b\0REMOTE_ADDR\x03\0::1\x0b\0HTTP_COOKIE\x01\0a\x0c\0CONTENT_TYPE\0\0",
            b"\0\0\0\0",
            b"\x05\0\0\0",
        ],
        "scgi_head" => &[
            b"65:CONTENT_LENGTH\x004\0SCGI\x001\0REQUEST_METHOD\0POST\0REQUEST_URI\0/a%20b?q\0,body",
            b"83:CONTENT_LENGTH\x000\0REQUEST_METHOD\0GET\0SCRIPT_NAME\0/a\0PATH_INFO\0/b\0SCGI\x001\0HTTP_HOST\0h\0,",
            b"79:CONTENT_LENGTH\x000\0SCGI\x001\0HTTP_COOKIE\0a=1\0HTTP_COOKIE\0b\0REMOTE_ADDR\0::1\0HTTPS\0on\0,",
            b"0:,",
            b"70:",
        ],
        "fastcgi_records" => &[
            b"\x01\x01\0\x01\0\x08\0\0\0\x01\x01\0\0\0\0\0\x01\x04\0\x01\0\x0f\x01\0\x0b\x02REQUEST_URI/a\0\x01\x04\0\x01\0\0\0\0\x01\x05\0\x01\0\x02\x02\0hi\0\0\x01\x05\0\x01\0\0\0\0",
            b"\x01\x09\0\0\0\x11\0\0\x0f\0FCGI_MPXS_CONNS",
            b"\x01\x01\0\x01\0\x08\0\0\0\x01\0\0\0\0\0\0\x01\x01\0\x03\0\x08\0\0\0\x01\0\0\0\0\0\0\x01\x02\0\x01\0\0\0\0",
        ],
        "websocket_frames" => &[
            b"\x00\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            b"\x5a\x01\x82\0\0\0\0\xc3\xbc\x89\x81\x01\x02\x03\x04a\x80\x81\0\0\0\0z\x8a\x80\0\0\0\0\x88\x85\0\0\0\0\x03\xe8bye",
            b"\x09\x82\xfe\0\x7e\0\0\0\0                                                                                                                              \x81\x81\0\0\0\0\xff",
            b"\x31\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\0\x41\x82\0\0\0\0\xf2\x48\x80\x85\0\0\0\0\xcd\xc9\xc9\x07\0",
            b"\x3b\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\0\xc1\x85\0\0\0\0\xf2\x00\x11\0\0",
        ],
        _ => &[],
    }
}
