//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): which trace a request belongs to.
//!
//! Decides what is a valid `traceparent` and `tracestate`, and how one is written. Ids are random bytes that the caller
//! brings. Version 00 is written; of later versions what 00 has is read, as section 4.3 of the specification asks.

/// Name of the header with trace and parent, in lower case.
pub const TRACEPARENT: &[u8] = b"traceparent";

/// Name of the header with what vendors keep, in lower case.
pub const TRACESTATE: &[u8] = b"tracestate";

/// Bytes of a `traceparent` of version 00.
pub const TRACEPARENT_LEN: usize = 55;

/// Members of a `tracestate` (section 3.3.1.1).
const MOST_MEMBERS: usize = 32;

/// Bytes of a `tracestate` that are passed on: what every participant must be able to (section 3.3.1.5).
pub const LONGEST_STATE: usize = 512;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Where in a trace a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Names the trace; not all zero.
    pub trace_id: [u8; 16],
    /// Names the span that is the parent; not all zero.
    pub parent_id: [u8; 8],
    /// `SAMPLED` and, since level 2, `RANDOM`; other bits mean nothing in version 00 and are left out.
    pub flags: u8,
}

impl TraceParent {
    /// The caller may have recorded the trace.
    pub const SAMPLED: u8 = 1;

    /// The right half of the trace id is random.
    pub const RANDOM: u8 = 2;

    /// Reads the value of a header.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = value.trim_ascii();
        let (ours, rest) = value.split_at_checked(TRACEPARENT_LEN)?;
        let [version] = hex(&ours[..2])?;
        let is_whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let dashes = [2, 35, 52].map(|at| ours[at]);
        if !is_whole || dashes != [b'-'; 3] {
            return None;
        }
        let (trace_id, parent_id) = (hex(&ours[3..35])?, hex(&ours[36..52])?);
        let [flags] = hex(&ours[53..])?;
        (trace_id != [0; 16] && parent_id != [0; 8]).then_some(Self {
            trace_id,
            parent_id,
            flags: flags & (Self::SAMPLED | Self::RANDOM),
        })
    }

    /// The value of the header.
    pub fn encode(&self) -> [u8; TRACEPARENT_LEN] {
        let mut text = [b'-'; TRACEPARENT_LEN];
        write_hex(&[0], &mut text[..2]);
        write_hex(&self.trace_id, &mut text[3..35]);
        write_hex(&self.parent_id, &mut text[36..52]);
        write_hex(&[self.flags], &mut text[53..]);
        text
    }

    /// Whether whoever asks has recorded it.
    pub const fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// Says whether we have recorded it.
    pub const fn set_sampled(&mut self, sampled: bool) {
        self.flags &= !Self::SAMPLED;
        if sampled {
            self.flags |= Self::SAMPLED;
        }
    }

    /// The trace's id as it is written.
    pub fn trace_id_text(&self) -> [u8; 32] {
        let mut text = [0; 32];
        write_hex(&self.trace_id, &mut text);
        text
    }
}

/// The members of a `tracestate` whose lines are `values`, joined; `None` where there is none or one breaks a rule:
/// then the whole of it is dropped (section 4.3).
pub fn state<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut state = Vec::new();
    let mut keys: Vec<&[u8]> = Vec::new();
    let members = values
        .into_iter()
        .flat_map(|value| value.split(|&byte| byte == b','));
    // Empty members are allowed, because lists are written by joining (section 3.3.1.1).
    for member in members
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
    {
        let equals = member.iter().position(|&byte| byte == b'=')?;
        let (key, value) = (&member[..equals], &member[equals + 1..]);
        let is_known = keys.contains(&key);
        if is_known || keys.len() == MOST_MEMBERS || !is_key(key) || !is_value(value) {
            return None;
        }
        keys.push(key);
        if state.len() + member.len() + 1 > LONGEST_STATE + 1 {
            // What is too long is cut at its end, member by member (section 3.3.1.5).
            break;
        }
        if !state.is_empty() {
            state.push(b',');
        }
        state.extend_from_slice(member);
    }
    (!state.is_empty()).then_some(state)
}

/// `key` of section 3.3.1.3: a lower case letter or digit, then those and `_-*/`, with one `@` of multi-tenant vendors.
fn is_key(key: &[u8]) -> bool {
    let is_rest =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let begins = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let tenants = key.split(|&byte| byte == b'@').count();
    key.len() <= 256 && key.first().is_some_and(begins) && key.iter().all(is_rest) && tenants <= 2
}

/// `value` of section 3.3.1.4: up to 256 visible characters and spaces, without `,` and `=`.
fn is_value(value: &[u8]) -> bool {
    let is_allowed = |byte: &u8| matches!(byte, 0x20..=0x7e) && !b",=".contains(byte);
    (1..=256).contains(&value.len()) && value.iter().all(is_allowed)
}

/// Lower case only (section 3.2.2).
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Writes two digits for each byte; `out` has room for exactly those.
fn write_hex(bytes: &[u8], out: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with(from: &str, to: &str) -> String {
        GOOD.replace(from, to)
    }

    #[test]
    fn reads_and_writes_version_00() {
        let parent = TraceParent::parse(GOOD.as_bytes()).expect("the specification's example");
        assert!(parent.is_sampled());
        assert_eq!(parent.trace_id[0], 0x4b);
        assert_eq!(parent.parent_id[7], 0xb7);
        assert_eq!(&parent.encode(), GOOD.as_bytes());
        assert_eq!(&parent.trace_id_text(), b"4bf92f3577b34da6a3ce929d0e0e4736");
        let quiet = TraceParent::parse(with("-01", "-02").as_bytes()).expect("good");
        assert_eq!(
            (quiet.is_sampled(), quiet.flags),
            (false, TraceParent::RANDOM)
        );
    }

    #[test]
    fn reads_what_00_has_of_later_versions() {
        let later = with("00-4b", "cc-4b");
        let first = TraceParent::parse(GOOD.as_bytes());
        assert_eq!(TraceParent::parse(later.as_bytes()), first);
        let longer = format!("{later}-what-the-future-brings");
        assert_eq!(TraceParent::parse(longer.as_bytes()), first);
        assert_eq!(TraceParent::parse(format!("{later}.what").as_bytes()), None);
        // Flags that have no meaning yet are not passed on.
        let flags = with("-01", "-ff");
        let flags = TraceParent::parse(flags.as_bytes()).expect("good");
        assert_eq!(flags.flags, TraceParent::SAMPLED | TraceParent::RANDOM);
    }

    #[test]
    fn refuses_everything_else() {
        for bad in [
            String::new(),
            "00".into(),
            with("00-4b", "ff-4b"),
            with("4bf92f35", "4BF92F35"),
            with("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            with("00f067aa0ba902b7", &"0".repeat(16)),
            with("4bf9", "4bg9"),
            with("-00f0", "_00f0"),
            format!("{GOOD}-more"),
            format!("{GOOD}0"),
            GOOD[..54].into(),
            format!("{GOOD}, {GOOD}"),
        ] {
            assert_eq!(TraceParent::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    fn joined(values: &[&str]) -> Option<String> {
        let state = state(values.iter().map(|value| value.as_bytes()))?;
        Some(String::from_utf8(state).expect("ASCII"))
    }

    #[test]
    fn joins_the_lines_of_a_state() {
        assert_eq!(
            joined(&[
                "rojo=00f067aa0ba902b7 , ,congo=t61rcWkgMzE",
                "tenant@vendor=1"
            ])
            .as_deref(),
            Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE,tenant@vendor=1")
        );
        assert_eq!(joined(&[]), None);
        assert_eq!(joined(&["", ","]), None);
    }

    #[test]
    fn drops_a_state_that_breaks_a_rule() {
        let many: Vec<String> = (0..33).map(|number| format!("k{number}=v")).collect();
        for bad in [
            "a",
            "a=",
            "=b",
            "A=b",
            "a=b=c",
            "a=1,a=2",
            "a=\u{e9}",
            "a@b@c=1",
            "a=x\ty",
            &many.join(","),
            &format!("a={}", "x".repeat(257)),
        ] {
            assert_eq!(joined(&[bad]), None, "{bad}");
        }
    }

    #[test]
    fn shortens_a_state_by_whole_members() {
        let long = "x".repeat(200);
        let state = joined(&[&format!("a={long},b={long},c={long}")]).expect("a part of it");
        assert_eq!(state, format!("a={long},b={long}"));
        assert!(state.len() <= LONGEST_STATE);
    }
}
