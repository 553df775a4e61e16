//! What the tables do, by time and by what is there.

use oxicorn_os::memfd;
use oxicorn_proto::pool::{Item, write};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn bytes(item: Item<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(item, &mut bytes).expect("it is short");
    bytes
}

/// A stash and the request that is made of it.
struct Scene {
    stash: Stash,
    now: Duration,
}

impl Scene {
    fn new() -> Self {
        Self {
            stash: Stash::default(),
            now: SECOND,
        }
    }

    fn ask(
        &mut self,
        operation: Operation,
        key: &str,
        value: Item<'_>,
        ttl: Option<Duration>,
    ) -> Result<Outcome, StashFault> {
        let (key, value) = (bytes(Item::Text(key)), bytes(value));
        let request = Request {
            operation,
            table: "table",
            key: Some(&key),
            value: &value,
            expected: &value,
            pattern: None,
            ttl,
        };
        self.stash.perform(&request, self.now)
    }

    fn put(&mut self, key: &str, value: i64) {
        let done = self.ask(Operation::Put, key, Item::Int(value), None);
        assert_eq!(done, Ok(Outcome::Bool(true)));
    }

    fn get(&mut self, key: &str) -> Option<i64> {
        match self.ask(Operation::Get, key, Item::None, None) {
            Ok(Outcome::Value(value)) => match operation::Number::read(&value) {
                Some(operation::Number::Int(number)) => Some(number),
                _ => None,
            },
            _ => None,
        }
    }
}

#[test]
fn what_is_put_is_there_until_it_is_taken_out() {
    let mut scene = Scene::new();
    assert_eq!(scene.get("a"), None);
    scene.put("a", 1);
    scene.put("a", 2);
    assert_eq!(scene.get("a"), Some(2));
    let pop = |scene: &mut Scene| scene.ask(Operation::Pop, "a", Item::None, None);
    assert_eq!(pop(&mut scene), Ok(Outcome::Value(bytes(Item::Int(2)))));
    assert_eq!(pop(&mut scene), Err(StashFault::Key));
    assert_eq!(scene.stash.bytes(), 0);
}

#[test]
fn a_life_ends_in_time_and_frees_its_memory() {
    let mut scene = Scene::new();
    let ttl = Some(2 * SECOND);
    let add = |scene: &mut Scene| scene.ask(Operation::Add, "lock", Item::Int(1), ttl);
    assert_eq!(add(&mut scene), Ok(Outcome::Bool(true)));
    assert_eq!(add(&mut scene), Ok(Outcome::Bool(false)));
    assert_eq!(scene.stash.next_end(), Some(3 * SECOND));
    scene.now = 3 * SECOND;
    assert_eq!(scene.get("lock"), None);
    assert_eq!((scene.stash.bytes(), scene.stash.next_end()), (0, None));
    assert_eq!(add(&mut scene), Ok(Outcome::Bool(true)));
    // One that is stored again lives as long as that says.
    scene.put("lock", 1);
    assert_eq!(scene.stash.next_end(), None);
}

#[test]
fn only_what_is_expected_is_replaced() {
    let mut scene = Scene::new();
    let (key, one, two) = (
        bytes(Item::Text("a")),
        bytes(Item::Int(1)),
        bytes(Item::Int(2)),
    );
    scene.put("a", 1);
    let mut replace = |expected: &[u8], value: &[u8]| {
        let request = Request {
            operation: Operation::Replace,
            table: "table",
            key: Some(&key),
            value,
            expected,
            pattern: None,
            ttl: None,
        };
        scene.stash.perform(&request, SECOND)
    };
    assert_eq!(replace(&two, &one), Ok(Outcome::Bool(false)));
    assert_eq!(replace(&one, &two), Ok(Outcome::Bool(true)));
    assert_eq!(replace(&one, &two), Ok(Outcome::Bool(false)));
}

#[test]
fn numbers_are_added_to_and_nothing_else_is() {
    let mut scene = Scene::new();
    let mut add = |key: &str, amount| scene.ask(Operation::Increment, key, amount, None);
    assert_eq!(add("n", Item::Int(2)), Ok(Outcome::Int(2)));
    assert_eq!(add("n", Item::Int(-3)), Ok(Outcome::Int(-1)));
    assert_eq!(add("n", Item::Float(0.5)), Ok(Outcome::Float(-0.5)));
    assert_eq!(add("big", Item::Int(i64::MAX)), Ok(Outcome::Int(i64::MAX)));
    assert_eq!(add("big", Item::Int(1)), Err(StashFault::Number));
    assert_eq!(add("n", Item::Text("1")), Err(StashFault::Number));
}

#[test]
fn it_holds_no_more_than_it_may() {
    let mut scene = Scene::new();
    scene.stash.set_limit(300);
    scene.put("a", 1);
    scene.put("b", 1);
    let full = scene.ask(Operation::Put, "c", Item::Int(1), None);
    assert_eq!(full, Err(StashFault::Full { limit: 300 }));
    // What makes it no larger is taken.
    scene.put("a", 2);
    scene.stash.set_limit(10);
    scene.put("a", 3);
    assert_eq!(scene.get("a"), Some(3));
}

#[test]
fn a_new_broker_has_what_the_old_one_had() {
    let files = || ["a", "b"].map(|name| memfd::empty_file(name).expect("there is memory"));
    let files = files();
    let open = |stash: &mut Stash| {
        let files = [0, 1].map(|place: usize| files[place].try_clone().expect("it is open"));
        Journal::open(files, stash).expect("it can be read")
    };
    let mut scene = Scene::new();
    let mut journal = open(&mut scene.stash);
    let large = "x".repeat(10_000);
    for round in 0..500 {
        scene.put("counter", round);
        let done = scene.ask(Operation::Put, "large", Item::Text(&large), None);
        assert!(done.is_ok());
        scene.put("gone", round);
        let done = scene.ask(Operation::Delete, "gone", Item::None, None);
        assert!(done.is_ok());
        assert!(note(&mut journal, &mut scene.stash));
    }
    let ttl = scene.ask(Operation::Put, "short", Item::Int(1), Some(SECOND));
    assert!(ttl.is_ok());
    assert!(note(&mut journal, &mut scene.stash));
    // Five million bytes were written; the book was made short meanwhile.
    let length = files
        .iter()
        .map(|file| memfd::len(file).expect("it is open"));
    assert!(length.sum::<u64>() < 2 << 20);

    let mut next = Scene::new();
    let _journal = open(&mut next.stash);
    assert_eq!(next.stash.bytes(), scene.stash.bytes());
    assert_eq!(next.get("counter"), Some(499));
    assert_eq!(next.get("gone"), None);
    assert_eq!(next.get("short"), Some(1));
    next.now = 2 * SECOND;
    assert_eq!(next.get("short"), None);
}

#[test]
fn a_change_that_a_broker_died_over_is_as_if_it_had_not_been() {
    let files = ["a", "b"].map(|name| memfd::empty_file(name).expect("there is memory"));
    let open = |stash: &mut Stash| {
        let files = [0, 1].map(|place: usize| files[place].try_clone().expect("it is open"));
        Journal::open(files, stash).expect("it can be read")
    };
    let mut scene = Scene::new();
    let mut journal = open(&mut scene.stash);
    scene.put("first", 1);
    assert!(note(&mut journal, &mut scene.stash));
    let before = memfd::len(&files[0]).expect("it is open");
    scene.put("second", 2);
    assert!(note(&mut journal, &mut scene.stash));
    let after = memfd::len(&files[0]).expect("it is open");
    for length in (before..after).rev() {
        memfd::cut(&files[0], length).expect("it is open");
        let mut next = Scene::new();
        let mut journal = open(&mut next.stash);
        assert_eq!((next.get("first"), next.get("second")), (Some(1), None));
        // What comes next is read by the one after that.
        next.put("third", 3);
        assert!(note(&mut journal, &mut next.stash));
        let mut last = Scene::new();
        drop(open(&mut last.stash));
        assert_eq!((last.get("first"), last.get("third")), (Some(1), Some(3)));
        memfd::cut(&files[0], before).expect("it is open");
    }
}

#[test]
fn a_request_of_gunicorns_client_is_understood() {
    // `BinaryProtocol.encode_stash(1, 4, "t", pattern="user:*")` without its header.
    let mut payload = Vec::new();
    for item in [
        Item::Map(3),
        Item::Text("op"),
        Item::Int(4),
        Item::Text("table"),
        Item::Text("t"),
        Item::Text("pattern"),
        Item::Text("user:*"),
    ] {
        payload.extend(bytes(item));
    }
    let request = Request::parse(&payload).expect("it is one");
    assert_eq!(
        (
            request.operation,
            request.table,
            request.pattern,
            request.key
        ),
        (Operation::Keys, "t", Some("user:*"), None)
    );
    for end in 0..payload.len() {
        assert!(Request::parse(&payload[..end]).is_err());
    }
}

#[test]
fn operations_are_shown_by_the_names_of_the_client() {
    use oxicorn_link::scoreboard::STASH_OPERATIONS;
    for (number, name) in (1_i64..).zip(STASH_OPERATIONS) {
        let mut payload = bytes(Item::Map(1));
        payload.extend(bytes(Item::Text("op")));
        payload.extend(bytes(Item::Int(number)));
        let request = Request::parse(&payload).expect("it is known");
        let shown = format!("{:?}", request.operation).to_lowercase();
        assert_eq!(shown, name.replace('_', ""));
        assert_eq!(STASH_OPERATIONS[request.operation as usize], name);
    }
    let mut payload = bytes(Item::Map(1));
    payload.extend(bytes(Item::Text("op")));
    payload.extend(bytes(Item::Int(17)));
    assert!(
        Request::parse(&payload).is_err(),
        "a new operation has a name"
    );
}

fn note(journal: &mut Journal, stash: &mut Stash) -> bool {
    let changes = stash.take_changes();
    journal.write(&changes, stash)
}
