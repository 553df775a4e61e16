//! When a proxy got a request, by its `X-Request-Start` or `X-Queue-Start`.
//!
//! There is no standard; every proxy writes a time since 1970, with or without `t=` before it, in a unit of its own:
//! nginx seconds with milliseconds behind the point (`t=1700000000.123`), Heroku milliseconds, Apache microseconds
//! (`t=1700000000123456`). The size of the number tells the unit, because requests are of this century. Whether the
//! peer is believed is for the caller to know (see [`crate::trust`]).

use std::time::Duration;

/// The names of the header, in lower case; the first one found counts.
pub const NAMES: [&[u8]; 2] = [b"x-request-start", b"x-queue-start"];

/// No request waits for longer in front of a server; what claims to have is a clock that is wrong.
pub const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// 2001-09-09, when the seconds since 1970 became ten digits: no request is older.
const LEAST_SECONDS: u64 = 1_000_000_000;

/// The time since 1970 that a value names, if it names one.
pub fn parse(value: &[u8]) -> Option<Duration> {
    let value = value.trim_ascii();
    let value = value.strip_prefix(b"t=").unwrap_or(value);
    let (whole, fraction) = match value.iter().position(|&byte| byte == b'.') {
        Some(point) => (&value[..point], &value[point + 1..]),
        None => (value, &b""[..]),
    };
    let number = digits(whole)?;
    let unit = unit_of(number)?;
    // Of a fraction no more is of interest than a nanosecond of seconds has.
    let shown = &fraction[..fraction.len().min(9)];
    let part = if fraction.is_empty() {
        0
    } else {
        digits(shown)?
    };
    if fraction[shown.len()..]
        .iter()
        .any(|byte| !byte.is_ascii_digit())
    {
        return None;
    }
    let scale = 10_u64.pow(u32::try_from(shown.len()).unwrap_or(0));
    let whole = Duration::from_nanos(number.checked_mul(unit)?);
    // Both are below 10^9, so the product is below 10^18.
    Some(whole + Duration::from_nanos(part * unit / scale))
}

/// How long before `now` that was (both since 1970). A clock that is ahead of ours means no time at all; `None` where
/// the two are more than [`LONGEST_WAIT`] apart.
pub fn wait(start: Duration, now: Duration) -> Option<Duration> {
    (start.abs_diff(now) <= LONGEST_WAIT).then(|| now.saturating_sub(start))
}

fn digits(text: &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    if text.is_empty() {
        return None;
    }
    for byte in text {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    Some(number)
}

/// Nanoseconds of one: seconds, milliseconds, microseconds or nanoseconds. Each range ends where the next begins.
fn unit_of(number: u64) -> Option<u64> {
    const UNITS: [u64; 4] = [1_000_000_000, 1_000_000, 1_000, 1];
    let is_of_this_century = |unit: &u64| number / (1_000_000_000 / unit) / LEAST_SECONDS < 1000;
    (number >= LEAST_SECONDS)
        .then(|| UNITS.into_iter().find(is_of_this_century))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_proxys_form_is_the_same_time() {
        let millis = Duration::from_millis(1_700_000_000_123);
        for value in [
            "t=1700000000.123",
            "1700000000.123",
            "t=1700000000123",
            "1700000000123",
            "t=1700000000123000",
            "1700000000123000",
            "1700000000123000000",
            " t=1700000000.123000 ",
            "1700000000123.0",
            "1700000000.123000000000000000000000",
        ] {
            assert_eq!(parse(value.as_bytes()), Some(millis), "{value}");
        }
        let micros = Duration::from_micros(1_700_000_000_123_456);
        for value in [
            "1700000000.123456",
            "t=1700000000123456",
            "1700000000123.456",
        ] {
            assert_eq!(parse(value.as_bytes()), Some(micros), "{value}");
        }
        let second = Duration::from_secs(1_700_000_000);
        assert_eq!(parse(b"1700000000"), Some(second));
        assert_eq!(parse(b"1700000000."), Some(second));
    }

    #[test]
    fn what_is_no_time_of_a_request_is_none() {
        for value in [
            "",
            "t=",
            "t",
            "-1700000000",
            "+1700000000",
            "1.7e9",
            "1700000000.12x",
            "1700000000.12345678901x",
            "1700000000,5",
            "0",
            "999999999",
            ".5",
            "99999999999999999999999999",
            "t=t=1700000000",
            "now",
        ] {
            assert_eq!(parse(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn clocks_that_differ_make_no_negative_and_no_endless_wait() {
        let seconds = Duration::from_secs;
        assert_eq!(wait(seconds(100), seconds(103)), Some(seconds(3)));
        assert_eq!(wait(seconds(103), seconds(100)), Some(Duration::ZERO));
        assert_eq!(wait(seconds(0), LONGEST_WAIT), Some(LONGEST_WAIT));
        assert_eq!(wait(seconds(0), LONGEST_WAIT + seconds(1)), None);
        assert_eq!(wait(LONGEST_WAIT + seconds(1), seconds(0)), None);
    }
}
