//! Invariant: the outcome for a shorter input is `NeedMore` or the outcome for the whole one, and a
//! header never takes more bytes than there are.

use oxicorn_proto::proxy_protocol::{Mode, Parsed, parse};

/// See the head of the file.
pub fn proxy_protocol(data: &[u8]) {
    for mode in [Mode::V1, Mode::V2, Mode::Auto] {
        let whole = parse(data, mode);
        if let Ok(Parsed::Header { consumed, .. }) = whole {
            assert!(consumed <= data.len());
            assert_eq!(parse(&data[..consumed], mode), whole);
        }
        for len in 0..data.len() {
            let part = parse(&data[..len], mode);
            assert!(
                part == Ok(Parsed::NeedMore) || part == whole,
                "{len} {part:?} {whole:?}"
            );
        }
    }
}
