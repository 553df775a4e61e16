//! Requests that somebody follows as they pass (`oxicornctl trace`).
//!
//! A follower gives a pattern and takes what has gathered now and then. Who takes nothing for [`PATIENCE`] is forgotten,
//! and what gathers meanwhile is bounded: beyond [`GATHERED`] only a number remains. While nobody follows it costs one
//! look at an empty list for each request.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use oxicorn_proto::message::RequestHead;

use super::requests::millis;
use crate::control::{Followed, FollowedList, FromGateway};
use crate::gateway::Gateway;
use crate::gateway::workers::unattended::escaped;
use crate::telemetry::tracing::RequestIds;
use crate::workers::calls::CallId;

/// Followers at a time.
const FOLLOWERS: usize = 16;

/// What gathers for one of them.
const GATHERED: usize = 1000;

/// What leaves for it in one message, and fits into a packet.
const IN_ONE_MESSAGE: usize = 80;

/// Who has taken nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest request line that is shown, in bytes.
const LINE_SHOWN: usize = 200;

/// Everybody who follows requests.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    followers: Vec<Follower>,
    /// What is known of the requests under way that somebody follows, by connection.
    under_way: HashMap<usize, UnderWay>,
}

#[derive(Debug)]
struct Follower {
    number: u64,
    pattern: Vec<u8>,
    seen: Duration,
    gathered: VecDeque<Gathered>,
    /// Those that found no room.
    lost: u64,
}

#[derive(Debug)]
struct Gathered {
    when: Duration,
    what: Followed,
}

#[derive(Debug, Default)]
struct UnderWay {
    id: String,
    received: Duration,
    queued: Duration,
    given: Option<Duration>,
}

impl Follower {
    fn gather(&mut self, when: Duration, what: Followed) {
        if self.gathered.len() < GATHERED {
            self.gathered.push_back(Gathered { when, what });
        } else {
            self.lost += 1;
        }
    }
}

impl Followers {
    /// Whether anybody follows.
    pub(crate) const fn is_empty(&self) -> bool {
        self.followers.is_empty()
    }

    fn forget_gone(&mut self, now: Duration) {
        self.followers
            .retain(|one| now.saturating_sub(one.seen) < PATIENCE);
        if self.followers.is_empty() {
            self.under_way = HashMap::new();
        }
    }

    fn gather(&mut self, now: Duration, line: &[u8], what: &Followed) {
        let matching = self.followers.iter_mut();
        for follower in matching.filter(|one| matches(&one.pattern, line)) {
            follower.gather(now, what.clone());
        }
    }

    fn is_followed(&self, line: &[u8]) -> bool {
        self.followers.iter().any(|one| matches(&one.pattern, line))
    }
}

/// Whether the parts of `pattern` between its asterisks stand in `line`, in this order.
fn matches(pattern: &[u8], mut line: &[u8]) -> bool {
    for part in pattern.split(|&byte| byte == b'*') {
        if part.is_empty() {
            continue;
        }
        let Some(at) = line.windows(part.len()).position(|window| window == part) else {
            return false;
        };
        line = &line[at + part.len()..];
    }
    true
}

/// `METHOD target`
fn line_of(head: &RequestHead<'_>) -> Vec<u8> {
    [head.method(), b" ", head.request_target()].concat()
}

impl Gateway {
    /// Gives a follower what has gathered for it; one that is not known begins.
    pub(crate) fn tell_follower(&mut self, token: u64, number: u64, pattern: &str) {
        let now = self.clock.now();
        self.followers.forget_gone(now);
        let followers = &mut self.followers.followers;
        let known = followers.iter().position(|one| one.number == number);
        let mut list = FollowedList {
            token,
            begins: known.is_none(),
            ..FollowedList::default()
        };
        if known.is_none() && followers.len() < FOLLOWERS {
            followers.push(Follower {
                number,
                pattern: pattern.as_bytes().to_vec(),
                seen: now,
                gathered: VecDeque::new(),
                lost: 0,
            });
        }
        match followers.iter_mut().find(|one| one.number == number) {
            None => list.refused = true,
            Some(follower) => {
                follower.seen = now;
                list.lost = std::mem::take(&mut follower.lost);
                let count = follower.gathered.len().min(IN_ONE_MESSAGE);
                list.events = (follower.gathered.drain(..count))
                    .map(|one| Followed {
                        ago_ms: millis(now.saturating_sub(one.when)),
                        ..one.what
                    })
                    .collect();
                list.more = !follower.gathered.is_empty();
            }
        }
        self.control.send(&FromGateway::Followed(list));
    }

    /// A request is complete and waits for a worker.
    pub(crate) fn follow_begin(&mut self, key: usize, id: CallId) {
        if self.followers.is_empty() {
            return;
        }
        let now = self.clock.now();
        self.followers.forget_gone(now);
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let line = line_of(&connection.session.head(connection.input.head()));
        if !self.followers.is_followed(&line) {
            return;
        }
        let received = self.time_to_receive(id);
        let what = Followed {
            event: "begin".into(),
            id: id.to_string(),
            request: escaped(&line[..line.len().min(LINE_SHOWN)]),
            client: connection.client().shown(),
            ids: RequestIds::of(connection.trace()),
            ..Followed::default()
        };
        self.followers.gather(now, &line, &what);
        let under_way = UnderWay {
            id: what.id,
            received,
            ..UnderWay::default()
        };
        self.followers.under_way.insert(key, under_way);
    }

    /// A worker was given it.
    pub(crate) fn follow_given(&mut self, key: Option<usize>, queued: Duration) {
        if self.followers.is_empty() {
            return;
        }
        let now = self.clock.now();
        if let Some(key) = key
            && let Some(under_way) = self.followers.under_way.get_mut(&key)
        {
            under_way.queued = queued;
            under_way.given = Some(now);
        }
    }

    /// Its response has left, or there will be none.
    pub(crate) fn follow_end(&mut self, key: usize) {
        if self.followers.is_empty() {
            return;
        }
        let now = self.clock.now();
        let under_way = self.followers.under_way.remove(&key).unwrap_or_default();
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let Some(exchange) = connection
            .exchange
            .as_deref()
            .filter(|one| one.request.readable)
        else {
            return;
        };
        let line = line_of(&connection.session.head(connection.input.head()));
        if !self.followers.is_followed(&line) {
            return;
        }
        let response = &exchange.response;
        let in_worker = under_way.given.map(|given| now.saturating_sub(given));
        let what = Followed {
            event: "end".into(),
            id: under_way.id,
            request: escaped(&line[..line.len().min(LINE_SHOWN)]),
            client: connection.client().shown(),
            ids: RequestIds::of(connection.trace()),
            status: response.status,
            bytes: response.body_bytes,
            pid: (response.pid != 0).then_some(response.pid),
            received_ms: millis(under_way.received),
            queued_ms: millis(under_way.queued),
            worker_ms: in_worker.map(millis),
            total_ms: millis(now.saturating_sub(exchange.request.started)),
            reason: response.reason.map(str::to_owned),
            ago_ms: 0,
        };
        self.followers.gather(now, &line, &what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_parts_in_their_order() {
        let line = b"POST /orders/17/items?page=2";
        for pattern in [
            "",
            "*",
            "/orders",
            "POST /orders*items",
            "POST *page=",
            "*items*",
        ] {
            assert!(matches(pattern.as_bytes(), line), "{pattern}");
        }
        for pattern in ["GET", "items*orders", "/orders/18", "page=22", "itemsitems"] {
            assert!(!matches(pattern.as_bytes(), line), "{pattern}");
        }
    }

    #[test]
    fn who_takes_nothing_costs_a_bounded_list_and_is_forgotten() {
        let mut followers = Followers::default();
        followers.followers.push(Follower {
            number: 1,
            pattern: b"/a".to_vec(),
            seen: Duration::ZERO,
            gathered: VecDeque::new(),
            lost: 0,
        });
        for _ in 0..GATHERED + 5 {
            followers.gather(Duration::ZERO, b"GET /a", &Followed::default());
            followers.gather(Duration::ZERO, b"GET /b", &Followed::default());
        }
        let follower = &followers.followers[0];
        assert_eq!((follower.gathered.len(), follower.lost), (GATHERED, 5));
        followers.forget_gone(PATIENCE / 2);
        assert!(!followers.is_empty());
        followers.forget_gone(PATIENCE);
        assert!(followers.is_empty());
    }
}
