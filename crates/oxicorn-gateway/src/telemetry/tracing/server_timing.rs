//! The `Server-Timing` header (W3C Server Timing): where the time went until a response began.

use std::io::Write as _;
use std::time::Duration;

/// A header's value, which is short.
#[derive(Debug, Default)]
pub(crate) struct ServerTiming(Vec<u8>);

impl ServerTiming {
    /// The time in proxies, if that is known, in the queue, and in the application. Milliseconds, as the header has
    /// them, to the microsecond.
    pub(crate) fn new(proxy: Option<Duration>, queue: Duration, application: Duration) -> Self {
        let mut value = Vec::new();
        let times = [
            ("proxy", proxy),
            ("queue", Some(queue)),
            ("app", Some(application)),
        ];
        for (name, time) in times {
            let Some(time) = time else { continue };
            let separator = if value.is_empty() { "" } else { ", " };
            let (millis, micros) = (time.as_millis(), time.subsec_micros() % 1000);
            write!(value, "{separator}{name};dur={millis}.{micros:03}")
                .expect("memory takes everything");
        }
        Self(value)
    }

    pub(crate) fn header(&self) -> (&[u8], &[u8]) {
        (b"Server-Timing", &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds() {
        let micros = Duration::from_micros;
        let timing = ServerTiming::new(Some(micros(12_345)), micros(7), micros(2_000_000));
        assert_eq!(
            timing.header().1,
            b"proxy;dur=12.345, queue;dur=0.007, app;dur=2000.000"
        );
        let timing = ServerTiming::new(None, Duration::ZERO, micros(1_500));
        assert_eq!(timing.header().1, b"queue;dur=0.000, app;dur=1.500");
    }
}
