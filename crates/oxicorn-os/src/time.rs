//! Clocks, and the two ways oxicorn writes a time.

use std::time::Duration;

use rustix::time::{ClockId, Timespec};

/// Time since boot that only goes forward; comparable between the processes of one machine.
pub fn monotonic() -> Duration {
    duration(rustix::time::clock_gettime(ClockId::Monotonic))
}

/// [`monotonic`] in nanoseconds; enough for five hundred years.
#[expect(
    clippy::cast_possible_truncation,
    reason = "nanoseconds since boot fit"
)]
pub fn monotonic_ns() -> u64 {
    monotonic().as_nanos() as u64
}

/// Time since 1970, as the wall clock has it (it may jump).
pub fn wall() -> Duration {
    duration(rustix::time::clock_gettime(ClockId::Realtime))
}

/// A clock before 1970 reads as 1970.
fn duration(time: Timespec) -> Duration {
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    u64::try_from(time.tv_sec).map_or(Duration::ZERO, |seconds| Duration::new(seconds, nanos))
}

/// A moment broken down by the machine's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Such as 2026.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
    /// What local time is ahead of UTC, in seconds; negative west of Greenwich.
    pub utc_offset_seconds: i32,
}

/// English names, as logs and HTTP have them whatever the locale.
pub const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

impl LocalTime {
    /// By seconds since 1970. Reads the time zone's rules on first use (a file): do not call it in
    /// a hot loop, keep the result for the second it is valid.
    pub fn from_unix(seconds: u64) -> Self {
        let time = libc::time_t::try_from(seconds).unwrap_or(libc::time_t::MAX);
        // SAFETY: a tm is plain numbers and a pointer, for which zero is a value.
        let mut parts: libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live values of ours. The function reads TZ from the
        // environment, like everything that calls the C library for the time; nobody changes the
        // environment of a process of ours once threads run.
        let filled = unsafe { libc::localtime_r(&raw const time, &raw mut parts) };
        if filled.is_null() {
            // A year beyond what tm can hold.
            return Self::from_utc(seconds);
        }
        let small = |number: libc::c_int| u8::try_from(number).unwrap_or(0);
        Self {
            year: parts.tm_year.saturating_add(1900),
            month: small(parts.tm_mon + 1),
            day: small(parts.tm_mday),
            hour: small(parts.tm_hour),
            minute: small(parts.tm_min),
            second: small(parts.tm_sec),
            utc_offset_seconds: i32::try_from(parts.tm_gmtoff).unwrap_or(0),
        }
    }

    /// The same for Greenwich. Pure.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "remainders of small divisors"
    )]
    pub fn from_utc(seconds: u64) -> Self {
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil_from_days(days);
        Self {
            year,
            month,
            day,
            hour: (second_of_day / 3600) as u8,
            minute: (second_of_day / 60 % 60) as u8,
            second: (second_of_day % 60) as u8,
            utc_offset_seconds: 0,
        }
    }

    /// `Jan` to `Dec`.
    pub fn month_name(&self) -> &'static str {
        MONTHS[usize::from(self.month.clamp(1, 12)) - 1]
    }

    /// As in access logs: sign, hours, minutes of the offset.
    pub fn utc_offset(&self) -> (char, u32, u32) {
        let minutes = self.utc_offset_seconds.unsigned_abs() / 60;
        let sign = if self.utc_offset_seconds < 0 {
            '-'
        } else {
            '+'
        };
        (sign, minutes / 60, minutes % 60)
    }
}

/// Year, month, day by days since 1970. Counts in years that begin on the first of March, so that
/// the leap day is the last of its year, and in eras of 400 years, which all have equally many days.
#[expect(
    clippy::cast_possible_truncation,
    reason = "bounded by the era's length"
)]
fn civil_from_days(days: u64) -> (i32, u8, u8) {
    const DAYS_TO_MARCH_0000: u64 = 719_468;
    const DAYS_OF_ERA: u64 = 146_097;
    let days = days + DAYS_TO_MARCH_0000;
    let (era, day) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 31 30 31 30 31 days, twice, and what remains: 153 days per five.
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = i32::try_from(era * 400 + year + later).unwrap_or(i32::MAX);
    (year, month as u8, day_of_month as u8)
}

/// Bytes of an [`http_date`].
pub const HTTP_DATE_LEN: usize = 29;

/// IMF-fixdate of RFC 9110 section 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`. Pure. Years beyond 9999
/// are written as 9999.
pub fn http_date(seconds: u64) -> [u8; HTTP_DATE_LEN] {
    let time = LocalTime::from_utc(seconds);
    let weekday = WEEKDAYS[(seconds / 86_400 % 7) as usize];
    let year = u32::try_from(time.year).unwrap_or(0).min(9999);
    let mut out = *b"Thu, 00 Jan 0000 00:00:00 GMT";
    out[..3].copy_from_slice(weekday.as_bytes());
    out[8..11].copy_from_slice(time.month_name().as_bytes());
    let mut two = |at: usize, number: u32| {
        out[at] = b'0' + (number / 10 % 10) as u8;
        out[at + 1] = b'0' + (number % 10) as u8;
    };
    two(5, time.day.into());
    two(12, year / 100);
    two(14, year % 100);
    two(17, time.hour.into());
    two(20, time.minute.into());
    two(23, time.second.into());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_as_in_the_rfc() {
        let cases: [(u64, &[u8; 29]); 5] = [
            (784_111_777, b"Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, b"Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_399, b"Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, b"Mon, 01 Mar 2100 00:00:00 GMT"),
        ];
        for (seconds, text) in cases {
            assert_eq!(&http_date(seconds), text);
        }
    }

    #[test]
    fn our_calendar_agrees_with_the_system_in_every_month_of_two_centuries() {
        for seconds in (0..6_400_000_000_u64).step_by(86_400 * 27 + 12_345) {
            let time = seconds.cast_signed();
            // SAFETY: as in `from_unix`, with gmtime, which needs no environment.
            let parts = unsafe {
                let mut parts: libc::tm = std::mem::zeroed();
                assert!(!libc::gmtime_r(&raw const time, &raw mut parts).is_null());
                parts
            };
            let ours = LocalTime::from_utc(seconds);
            let date = (ours.year, i32::from(ours.month), i32::from(ours.day));
            assert_eq!(
                date,
                (parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday),
                "{seconds}"
            );
        }
    }

    #[test]
    fn local_time_is_utc_and_its_offset() {
        let now = wall().as_secs();
        let local = LocalTime::from_unix(now);
        let shifted = now
            .checked_add_signed(local.utc_offset_seconds.into())
            .unwrap();
        let utc_offset_seconds = local.utc_offset_seconds;
        assert_eq!(
            local,
            LocalTime {
                utc_offset_seconds,
                ..LocalTime::from_utc(shifted)
            }
        );
    }

    #[test]
    fn offsets_are_split_with_their_sign() {
        let utc = LocalTime::from_utc(0);
        let offset = |utc_offset_seconds| {
            LocalTime {
                utc_offset_seconds,
                ..utc
            }
            .utc_offset()
        };
        assert_eq!(offset(0), ('+', 0, 0));
        assert_eq!(offset(5 * 3600 + 1800), ('+', 5, 30));
        assert_eq!(offset(-9 * 3600 - 1800), ('-', 9, 30));
    }

    #[test]
    fn monotonic_time_does_not_go_back() {
        let before = monotonic();
        assert!(monotonic() >= before);
        assert!(monotonic_ns() >= u64::try_from(before.as_nanos()).unwrap());
    }
}
