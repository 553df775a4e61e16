//! What the scoreboard says.

use oxicorn_link::scoreboard::{Counter, Gauge, HistogramKind, StatusClass};

use crate::scenario::{Scenario, eventually, patient};

#[test]
fn the_scoreboard_counts_what_clients_and_workers_do() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let figures = scenario.scoreboard.gateway(0).unwrap();
    let mut client = scenario.connect();
    for _ in 0..3 {
        client.get("/");
        worker.echo();
        client.read_response();
    }
    let mut bad = scenario.connect();
    bad.send("rubbish\r\n\r\n");
    assert_eq!(bad.read_response().status, 400);
    client.get("/last");
    let claimed = worker.claim();
    eventually("one in flight", || figures.gauge(Gauge::InFlight) == 1);
    assert!(figures.gauge(Gauge::Heartbeat) > 0);
    worker.respond(&claimed, "");
    client.read_response();
    let counters = [
        (Counter::Accepted, 2),
        (Counter::Requests, 4),
        (Counter::PeerFaults, 1),
    ];
    for (counter, number) in counters {
        eventually(&format!("{counter:?}"), || {
            figures.counter(counter) == number
        });
    }
    let responses = [
        (StatusClass::Successful, 4),
        (StatusClass::ClientError, 1),
        (StatusClass::ServerError, 0),
    ];
    for (class, number) in responses {
        eventually(&format!("{class:?}"), || {
            figures.responses_of(class) == number
        });
    }
    assert!(figures.counter(Counter::BytesIn) > 100 && figures.counter(Counter::BytesOut) > 400);
    let waits: u64 = figures
        .histogram(HistogramKind::QueueWait)
        .buckets()
        .map(|(_, n)| n)
        .sum();
    assert_eq!(waits, 4);
}
