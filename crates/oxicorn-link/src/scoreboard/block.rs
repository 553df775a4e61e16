//! A gateway thread's figures.

use std::sync::Arc;
use std::time::Duration;

use oxicorn_os::mapping::Mapping;

use super::histogram::{self, HistogramReading};
use super::{add, read, write};
use crate::wire_enum::wire_enum;

/// Bytes before the histograms: room for more gauges and counters than there are.
const NUMBERS_LEN: usize = 2048;
const COUNTERS_AT: usize = 256;
/// Responses by method and status class.
const RESPONSES_AT: usize = 1024;
/// Bytes of a block.
pub(super) const LEN: usize = NUMBERS_LEN + HistogramKind::ALL.len() * histogram::LEN;

wire_enum! {
    /// What goes up and down.
    Gauge {
        /// Requests in the queue.
        Queued = 0,
        /// Requests that workers have.
        InFlight = 1,
        /// Open client connections.
        Connections = 2,
        /// Bytes of requests and responses in buffers.
        Buffered = 3,
        /// Last sign of life, nanoseconds of the monotonic clock.
        Heartbeat = 4,
    }
}

wire_enum! {
    /// What only goes up.
    Counter {
        /// Connections accepted.
        Accepted = 0,
        /// Requests whose head was read.
        Requests = 1,
        /// Bytes received from clients.
        BytesIn = 2,
        /// Bytes sent to clients.
        BytesOut = 3,
        /// Requests refused because the queue was full.
        RejectedFull = 4,
        /// Requests refused because they had waited too long.
        RejectedWaited = 5,
        /// Requests that grew older than the timeout.
        Expired = 6,
        /// Requests lost with their worker.
        Lost = 7,
        /// Requests given to another worker because theirs died or was busy.
        Requeued = 8,
        /// Requests whose client left before the response.
        Abandoned = 9,
        /// Peers that broke the protocol.
        PeerFaults = 10,
        /// Workers that broke the link.
        WorkerFaults = 11,
        /// Spans that a collector took.
        SpansExported = 12,
        /// Spans that it did not.
        SpansDropped = 13,
        /// Handshakes with TLS 1.2, from the beginning.
        Tls12 = 14,
        /// Those that resumed a session.
        Tls12Resumed = 15,
        /// Handshakes with TLS 1.3, from the beginning.
        Tls13 = 16,
        /// Those that resumed a session.
        Tls13Resumed = 17,
        /// Connections that TLS could not be spoken on.
        TlsFailed = 18,
        /// Handshakes that did not end in time.
        TlsTooSlow = 19,
        /// Clients that sent plain HTTP where TLS is spoken.
        TlsUnencrypted = 20,
        /// Connections of HTTP/2 that were ended for resetting too many streams.
        Http2Resets = 21,
        /// For too many malformed requests.
        Http2Malformed = 22,
        /// For a head in too many pieces.
        Http2Continuations = 23,
        /// For too many frames that ask for nothing.
        Http2Control = 24,
        /// For too many updates of windows.
        Http2WindowUpdates = 25,
        /// For a header list that is far beyond every bound.
        Http2HeaderLists = 26,
    }
}

wire_enum! {
    /// What is measured.
    HistogramKind {
        /// From the request's head to the last byte of the response.
        Latency = 0,
        /// From complete request to being given to a worker.
        QueueWait = 1,
        /// From being given to a worker until the worker is through with it.
        Service = 2,
        /// From a proxy's getting a request to its head being read here.
        ProxyTime = 3,
    }
}

wire_enum! {
    /// Methods that are told apart: a client can send any word, and must not make as many series.
    Method {
        /// GET
        Get = 0,
        /// HEAD
        Head = 1,
        /// POST
        Post = 2,
        /// PUT
        Put = 3,
        /// PATCH
        Patch = 4,
        /// DELETE
        Delete = 5,
        /// OPTIONS
        Options = 6,
        /// Every other one, and requests that could not be understood.
        Other = 7,
    }
}

impl Method {
    /// What a request's method counts as.
    pub const fn of(method: &[u8]) -> Self {
        match method {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"PATCH" => Self::Patch,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }

    /// As a label has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other => "other",
        }
    }
}

wire_enum! {
    /// The first digit of a response's status.
    StatusClass {
        /// 1xx
        Informational = 0,
        /// 2xx
        Successful = 1,
        /// 3xx
        Redirection = 2,
        /// 4xx
        ClientError = 3,
        /// 5xx and beyond
        ServerError = 4,
    }
}

impl StatusClass {
    /// The class of a status.
    pub const fn of(status: u16) -> Self {
        match status {
            100..=199 => Self::Informational,
            200..=299 => Self::Successful,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            _ => Self::ServerError,
        }
    }

    /// As a label has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Successful => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

/// One gateway thread's part of the scoreboard. That thread alone writes.
#[derive(Clone, Debug)]
pub struct GatewayBlock {
    mapping: Arc<Mapping>,
    at: usize,
}

impl GatewayBlock {
    pub(super) fn new(mapping: Arc<Mapping>, at: usize) -> Self {
        Self { mapping, at }
    }

    fn gauge_at(&self, gauge: Gauge) -> usize {
        self.at + usize::from(gauge.as_u8()) * 8
    }

    fn counter_at(&self, counter: Counter) -> usize {
        self.at + COUNTERS_AT + usize::from(counter.as_u8()) * 8
    }

    fn response_at(&self, method: Method, class: StatusClass) -> usize {
        let place = usize::from(method.as_u8()) * StatusClass::ALL.len();
        self.at + RESPONSES_AT + (place + usize::from(class.as_u8())) * 8
    }

    fn histogram_at(&self, kind: HistogramKind) -> usize {
        self.at + NUMBERS_LEN + usize::from(kind.as_u8()) * histogram::LEN
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: Gauge, number: u64) {
        write(&self.mapping, self.gauge_at(gauge), number);
    }

    /// Adds to a counter.
    pub fn add(&self, counter: Counter, number: u64) {
        add(&self.mapping, self.counter_at(counter), number);
    }

    /// Counts a response.
    pub fn add_response(&self, method: Method, class: StatusClass) {
        add(&self.mapping, self.response_at(method, class), 1);
    }

    /// Responses to requests of this method with a status of this class.
    pub fn responses(&self, method: Method, class: StatusClass) -> u64 {
        read(&self.mapping, self.response_at(method, class))
    }

    /// Responses with a status of this class, whatever was asked for.
    pub fn responses_of(&self, class: StatusClass) -> u64 {
        let of_method = |method: &Method| self.responses(*method, class);
        Method::ALL.iter().map(of_method).sum()
    }

    /// Counts a duration.
    pub fn record(&self, kind: HistogramKind, duration: Duration) {
        histogram::record(&self.mapping, self.histogram_at(kind), duration);
    }

    /// Reads a gauge.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        read(&self.mapping, self.gauge_at(gauge))
    }

    /// Reads a counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        read(&self.mapping, self.counter_at(counter))
    }

    /// Reads a histogram.
    pub fn histogram(&self, kind: HistogramKind) -> HistogramReading {
        histogram::read_all(&self.mapping, self.histogram_at(kind))
    }

    /// Forgets the gauges of a gateway that died; counters and histograms go on, so that what is
    /// scraped never goes back.
    pub fn resume(&self) {
        for gauge in Gauge::ALL {
            self.set(*gauge, 0);
        }
    }
}

const _: () = {
    assert!(
        Gauge::ALL.len() * 8 <= COUNTERS_AT,
        "gauges do not run into the counters"
    );
    assert!(
        COUNTERS_AT + Counter::ALL.len() * 8 <= RESPONSES_AT,
        "nor counters into responses"
    );
    assert!(
        RESPONSES_AT + Method::ALL.len() * StatusClass::ALL.len() * 8 <= NUMBERS_LEN,
        "nor responses into histograms"
    );
    assert!(LEN.is_multiple_of(128), "blocks do not share cache lines");
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::Scoreboard;

    #[test]
    fn every_number_has_its_own_place() {
        let (board, _file) = Scoreboard::create(1, 1).unwrap();
        let block = board.gateway(0).unwrap();
        for (number, gauge) in (1..).zip(Gauge::ALL) {
            block.set(*gauge, number);
        }
        for (number, counter) in (100..).zip(Counter::ALL) {
            block.add(*counter, number);
        }
        assert!(
            (1..)
                .zip(Gauge::ALL)
                .all(|(number, gauge)| block.gauge(*gauge) == number)
        );
        assert!(
            (100..)
                .zip(Counter::ALL)
                .all(|(number, one)| block.counter(*one) == number)
        );
        for method in Method::ALL {
            for class in StatusClass::ALL {
                assert_eq!(block.responses(*method, *class), 0);
                block.add_response(*method, *class);
            }
        }
        block.resume();
        assert!(Gauge::ALL.iter().all(|gauge| block.gauge(*gauge) == 0));
        assert_eq!(block.counter(Counter::Accepted), 100);
    }

    #[test]
    fn statuses_are_counted_by_class() {
        let statuses = [100, 204, 304, 404, 503, 999];
        let names = statuses.map(|status| StatusClass::of(status).name());
        assert_eq!(names, ["1xx", "2xx", "3xx", "4xx", "5xx", "5xx"]);
        let (board, _file) = Scoreboard::create(1, 1).unwrap();
        let block = board.gateway(0).unwrap();
        for (method, status) in [Method::Get, Method::Post]
            .into_iter()
            .cycle()
            .zip(statuses)
        {
            block.add_response(method, StatusClass::of(status));
        }
        let counted = StatusClass::ALL
            .iter()
            .map(|class| block.responses_of(*class));
        assert_eq!(counted.collect::<Vec<_>>(), [1, 1, 1, 1, 2]);
    }
}
