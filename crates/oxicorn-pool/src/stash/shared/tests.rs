//! What callers see and put, beside a broker that lives, dies, or meets one that died.

use std::os::fd::OwnedFd;
use std::time::Duration;

use oxicorn_os::mapping::Mapping;
use oxicorn_proto::pool::{Item, write};

use super::area::{AREAS, Area, Field};
use super::record::{NAME_MAX, VALUE_MAX};
use super::*;
use crate::stash::{Change, Operation, Outcome, Request, Stash, StashFault};

const SECOND: Duration = Duration::from_secs(1);

fn bytes(item: Item<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(item, &mut bytes).expect("it is short");
    bytes
}

fn key(text: &str) -> Vec<u8> {
    bytes(Item::Text(text))
}

fn number(number: i64) -> Vec<u8> {
    bytes(Item::Int(number))
}

/// A broker's stash, without a broker.
struct Scene {
    file: OwnedFd,
    stash: Stash,
    mirror: Mirror,
    now: Duration,
}

impl Scene {
    fn new() -> Self {
        let file = create_file().expect("a file of memory");
        let (mirror, put) = Mirror::open(Some(file.try_clone().expect("a descriptor")));
        assert!(put.is_empty());
        Self {
            file,
            stash: Stash::default(),
            mirror,
            now: SECOND,
        }
    }

    fn view(&mut self) -> View {
        let file = self.mirror.show(&self.stash).expect("it is shown");
        let file = file.try_clone_to_owned().expect("a descriptor");
        let view = View::attach(&file).expect("a view");
        self.with(Asked::Something, |_| ());
        view
    }

    fn with<T>(&mut self, asked: Asked<'_>, work: impl FnOnce(&mut Stash) -> T) -> T {
        for change in self.mirror.begin() {
            self.stash.take_over(change);
        }
        self.stash.take_changes();
        self.mirror.taken();
        let done = work(&mut self.stash);
        let changes = self.stash.take_changes();
        self.mirror.finish(&changes, &self.stash, asked, self.now);
        done
    }

    fn ask(
        &mut self,
        operation: Operation,
        key: &[u8],
        value: &[u8],
    ) -> Result<Outcome, StashFault> {
        let request = Request {
            operation,
            table: "table",
            key: Some(key),
            value,
            expected: value,
            pattern: None,
            ttl: None,
        };
        let now = self.now;
        self.with(Asked::Something, |stash| stash.perform(&request, now))
    }

    fn ask_number(&mut self, text: &str) -> Option<Vec<u8>> {
        match self.ask(Operation::Get, &key(text), &[]) {
            Ok(Outcome::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// The broker has died, and another one has begun, with what the journal has.
    fn begin_anew(&mut self) -> Vec<Change> {
        let file = self.file.try_clone().expect("a descriptor");
        let (mirror, put) = Mirror::open(Some(file));
        self.mirror = mirror;
        put
    }

    /// What the view says by itself.
    fn seen(&self, view: &View, text: &str) -> Sought {
        view.get("table", &key(text), self.now)
    }

    fn put(&self, view: &View, text: &str, value: i64) -> Put {
        view.put("table", &key(text), &number(value), None, self.now)
    }
}

fn name_of(text: &str) -> record::Name {
    record::Name::new("table", &key(text)).expect("it is short")
}

/// The bucket that leads to an entry, and where its record is.
fn found(area: &Area<'_>, text: &str) -> (usize, usize) {
    match area.find(&name_of(text)) {
        area::Place::Found { bucket, at } => (bucket, at),
        other => panic!("{text} is there: {other:?}"),
    }
}

fn last_area(mapping: &Mapping) -> Area<'_> {
    let last = area::in_force(mapping).expect("one");
    Area::new(mapping, last).expect("it is there")
}

#[test]
fn what_one_puts_all_see_and_the_broker_has() {
    let mut scene = Scene::new();
    let (one, two) = (scene.view(), scene.view());
    assert_eq!(scene.seen(&one, "a"), Sought::Missing);
    assert_eq!(scene.put(&one, "a", 1), Put::Done);
    assert_eq!(scene.seen(&two, "a"), Sought::Value(number(1)));
    assert_eq!(scene.put(&two, "a", 2), Put::Done);
    assert_eq!(scene.ask_number("a"), Some(number(2)));
    let sum = scene.ask(Operation::Increment, &key("a"), &number(5));
    assert_eq!(sum, Ok(Outcome::Int(7)));
    assert_eq!(scene.seen(&one, "a"), Sought::Value(number(7)));
    assert_eq!(scene.stash.size(), (1, 1));
}

#[test]
fn what_the_broker_takes_out_is_seen_no_more() {
    for operation in [
        Operation::Delete,
        Operation::Pop,
        Operation::Clear,
        Operation::DeleteTable,
    ] {
        let mut scene = Scene::new();
        let view = scene.view();
        assert_eq!(scene.put(&view, "a", 1), Put::Done);
        scene.ask(operation, &key("a"), &[]).expect("it is done");
        assert_eq!(scene.seen(&view, "a"), Sought::Missing, "{operation:?}");
        assert_eq!(scene.put(&view, "a", 2), Put::Done);
        assert_eq!(scene.ask_number("a"), Some(number(2)), "{operation:?}");
    }
}

#[test]
fn tables_and_keys_are_not_mistaken_for_one_another() {
    let mut scene = Scene::new();
    let view = scene.view();
    let put = |table: &str, key: &[u8], value| view.put(table, key, &number(value), None, SECOND);
    // Keys are opaque here but to the broker, which refuses what is none.
    assert_eq!(put("ab", &key("c"), 1), Put::Done);
    assert_eq!(put("a", &key("bc"), 2), Put::Done);
    assert_eq!(put("", &key("abc"), 3), Put::Done);
    for (table, text, value) in [("ab", "c", 1), ("a", "bc", 2), ("", "abc", 3)] {
        let seen = view.get(table, &key(text), SECOND);
        assert_eq!(seen, Sought::Value(number(value)));
    }
    scene.with(Asked::Something, |_| ());
    assert_eq!(scene.stash.size(), (3, 3));
}

#[test]
fn an_entry_ends_in_its_time_without_the_broker() {
    let mut scene = Scene::new();
    let view = scene.view();
    let end = scene.now + SECOND / 2;
    let put = view.put("table", &key("a"), &number(1), Some(end), scene.now);
    assert_eq!(put, Put::Done);
    assert_eq!(scene.seen(&view, "a"), Sought::Value(number(1)));
    scene.now = end;
    assert_eq!(scene.seen(&view, "a"), Sought::Missing);
    let now = scene.now;
    scene.with(Asked::Something, |stash| stash.expire(now));
    assert_eq!(scene.stash.size(), (1, 0));
    // One that is put again meanwhile does not end with the one before.
    assert_eq!(scene.put(&view, "a", 2), Put::Done);
    scene.with(Asked::Something, |stash| stash.expire(now));
    assert_eq!(scene.ask_number("a"), Some(number(2)));
}

#[test]
fn the_direct_way_is_open_for_a_second() {
    let mut scene = Scene::new();
    let view = scene.view();
    assert_eq!(scene.put(&view, "a", 1), Put::Done);
    let end = scene.mirror.lease_end().expect("there is one");
    scene.now = end;
    assert_eq!(scene.seen(&view, "a"), Sought::Ask);
    assert_eq!(scene.put(&view, "a", 2), Put::Ask);
    scene.with(Asked::No, |_| ());
    assert_eq!(scene.mirror.lease_end(), None, "who sleeps is not woken");
    assert_eq!(scene.seen(&view, "a"), Sought::Ask);
    let counts = scene.mirror.take_counts();
    assert_eq!((counts.puts, counts.gets), (1, 0));
    scene.with(Asked::Something, |_| ());
    assert_eq!(scene.seen(&view, "a"), Sought::Value(number(1)));
    scene.with(Asked::Something, |_| ());
    let counts = scene.mirror.take_counts();
    assert_eq!((counts.puts, counts.gets), (0, 1));
}

#[test]
fn a_put_beyond_the_limit_is_asked_for() {
    let mut scene = Scene::new();
    let view = scene.view();
    scene.with(Asked::Something, |stash| stash.set_limit(300));
    assert_eq!(scene.put(&view, "a", 1), Put::Done);
    assert_eq!(scene.put(&view, "b", 1), Put::Done);
    assert_eq!(scene.put(&view, "c", 1), Put::Ask);
    assert_eq!(scene.put(&view, "a", 2), Put::Done, "as long as before");
    let refused = scene.ask(Operation::Put, &key("c"), &number(1));
    assert_eq!(refused, Err(StashFault::Full { limit: 300 }));
}

#[test]
fn long_values_and_names_are_asked_for() {
    let mut scene = Scene::new();
    let view = scene.view();
    let long = bytes(Item::Bytes(&vec![1; VALUE_MAX]));
    let put = view.put("table", &key("a"), &long, None, scene.now);
    assert_eq!(put, Put::Ask);
    scene.ask(Operation::Put, &key("a"), &long).expect("room");
    assert_eq!(scene.seen(&view, "a"), Sought::Ask);
    assert_eq!(scene.put(&view, "a", 1), Put::Ask);
    assert_eq!(scene.seen(&view, "b"), Sought::Missing);
    scene
        .ask(Operation::Put, &key("a"), &number(1))
        .expect("room");
    assert_eq!(scene.seen(&view, "a"), Sought::Value(number(1)));
    let long_name = "x".repeat(NAME_MAX);
    assert_eq!(scene.put(&view, &long_name, 1), Put::Ask);
    scene
        .ask(Operation::Put, &key(&long_name), &number(1))
        .expect("room");
    assert_eq!(scene.seen(&view, &long_name), Sought::Ask);
}

#[test]
fn more_than_can_be_shown_is_kept_all_the_same() {
    let mut scene = Scene::new();
    let view = scene.view();
    let value = bytes(Item::Bytes(&vec![1; VALUE_MAX - 5]));
    let names: Vec<String> = (0..400).map(|name| format!("key {name}")).collect();
    let mut direct = 0;
    for name in &names {
        match view.put("table", &key(name), &value, None, scene.now) {
            Put::Done => direct += 1,
            Put::Ask => {
                scene.ask(Operation::Put, &key(name), &value).expect("room");
            }
        }
    }
    assert!(direct > 100, "{direct}");
    for name in &names {
        match scene.seen(&view, name) {
            Sought::Value(seen) => assert_eq!(seen, value),
            Sought::Ask => assert_eq!(scene.ask_number(name), Some(value.clone())),
            Sought::Missing => panic!("{name} is lost"),
        }
    }
    let entries = scene.with(Asked::Something, |stash| stash.size().1);
    assert_eq!(entries, names.len());
}

#[test]
fn a_heap_that_is_full_of_old_values_is_made_anew() {
    let mut scene = Scene::new();
    let view = scene.view();
    let mut asked = 0;
    for value in 0..300_000 {
        if scene.put(&view, "a", value) == Put::Ask {
            asked += 1;
            scene
                .ask(Operation::Put, &key("a"), &number(value))
                .expect("room");
        }
        assert_eq!(scene.seen(&view, "a"), Sought::Value(number(value)));
    }
    assert!((1..40).contains(&asked), "{asked}");
}

#[test]
fn as_many_names_as_there_is_room_for_are_found() {
    let mut scene = Scene::new();
    let view = scene.view();
    for turn in 0..3 {
        for name in 0..20_000 {
            let name = format!("{turn} {name}");
            if scene.put(&view, &name, 1) == Put::Ask {
                scene
                    .ask(Operation::Put, &key(&name), &number(1))
                    .expect("room");
            }
            scene
                .ask(Operation::Delete, &key(&name), &[])
                .expect("it is there");
            assert!(matches!(
                scene.seen(&view, &name),
                Sought::Missing | Sought::Ask
            ));
        }
    }
    assert_eq!(scene.put(&view, "a", 1), Put::Done);
    assert_eq!(scene.seen(&view, "a"), Sought::Value(number(1)));
}

#[test]
fn what_was_put_beside_a_broker_that_died_is_there_in_the_next() {
    let mut scene = Scene::new();
    let view = scene.view();
    assert_eq!(scene.put(&view, "a", 1), Put::Done);
    scene
        .ask(Operation::Delete, &key("a"), &[])
        .expect("it is there");
    assert_eq!(scene.put(&view, "b", 2), Put::Done);
    assert_eq!(scene.put(&view, "b", 3), Put::Done);
    let put = scene.begin_anew();
    // What was taken out since is not put back, what was put last stays.
    let value_of = |change: &Change| match change {
        Change::Entry { key, value, .. } => (key.clone(), value.clone()),
        _ => panic!("only entries are put"),
    };
    let put: Vec<_> = put.iter().map(value_of).collect();
    assert_eq!(put, [(key("b"), number(2)), (key("b"), number(3))]);
    assert!(view.is_over());
    assert_eq!(scene.seen(&view, "b"), Sought::Ask);
    assert_eq!(scene.put(&view, "b", 4), Put::Ask);
    scene.mirror.taken();
    assert!(scene.begin_anew().is_empty(), "once is enough");
    let view = scene.view();
    assert!(!view.is_over());
    assert_eq!(scene.put(&view, "c", 5), Put::Done);
}

#[test]
fn whoever_dies_while_it_writes_holds_nobody_up() {
    let mut scene = Scene::new();
    let view = scene.view();
    assert_eq!(scene.put(&view, "a", 1), Put::Done);
    let mapping = Mapping::new(&scene.file).expect("a mapping");
    let area = last_area(&mapping);
    assert!(area.try_lock());
    area.set(Field::Version, area.get(Field::Version) | 1);
    assert_eq!(scene.put(&view, "a", 2), Put::Ask);
    assert_eq!(scene.seen(&view, "a"), Sought::Ask);
    assert_eq!(scene.ask_number("a"), Some(number(1)));
    assert!(view.is_over());
    let view = scene.view();
    assert_eq!(scene.seen(&view, "a"), Sought::Value(number(1)));
    assert_eq!(scene.put(&view, "a", 3), Put::Done);
    assert_eq!(scene.ask_number("a"), Some(number(3)));
}

#[test]
fn a_put_whose_writer_was_stopped_after_it_counted_is_not_lost() {
    let mut scene = Scene::new();
    let view = scene.view();
    assert_eq!(scene.put(&view, "a", 1), Put::Done);
    let mapping = Mapping::new(&scene.file).expect("a mapping");
    let area = last_area(&mapping);
    let (name, (bucket, at)) = (name_of("a"), found(&area, "a"));
    assert_eq!(scene.put(&view, "a", 2), Put::Done);
    // As if the writer of the second had been stopped before readers could find it.
    assert!(area.try_lock());
    area.lead(bucket, &name, at);
    assert_eq!(scene.ask_number("a"), Some(number(2)));
}

#[test]
fn brokers_that_die_use_up_no_area() {
    let mut scene = Scene::new();
    for turn in 0..3 * AREAS {
        let view = scene.view();
        assert_eq!(scene.put(&view, "a", 1), Put::Done);
        let mapping = Mapping::new(&scene.file).expect("a mapping");
        // Some die in the middle of an operation, some while they open another area.
        if turn % 2 == 0 {
            assert!(last_area(&mapping).try_lock_as_broker());
        }
        let other = Area::new(&mapping, AREAS - 1).expect("it is there");
        assert!(other.try_lock_as_broker(), "no lock is left behind");
        for change in scene.begin_anew() {
            scene.stash.take_over(change);
        }
        scene.mirror.taken();
        assert_eq!(scene.ask_number("a"), Some(number(1)));
    }
}

#[test]
fn an_area_is_used_again_when_whoever_was_stopped_there_has_gone_on() {
    let mut scene = Scene::new();
    for _ in 0..3 * AREAS {
        let view = scene.view();
        let mapping = Mapping::new(&scene.file).expect("a mapping");
        let area = last_area(&mapping);
        assert!(area.try_lock());
        scene.with(Asked::Something, |_| ());
        assert!(view.is_over());
        let other = scene.view();
        assert_eq!(scene.put(&other, "a", 2), Put::Done);
        area.unlock();
    }
    assert_eq!(scene.ask_number("a"), Some(number(2)));
    assert!(!scene.mirror.is_used_up());
}

#[test]
fn when_all_areas_are_used_up_the_broker_is_asked() {
    let mut scene = Scene::new();
    for _ in 0..AREAS {
        let view = scene.view();
        assert_eq!(scene.put(&view, "a", 1), Put::Done);
        let mapping = Mapping::new(&scene.file).expect("a mapping");
        assert!(last_area(&mapping).try_lock());
        scene.with(Asked::Something, |_| ());
    }
    assert!(scene.mirror.show(&scene.stash).is_none());
    assert!(scene.mirror.is_used_up());
    assert!(!scene.mirror.is_used_up(), "said once");
    assert_eq!(scene.ask_number("a"), Some(number(1)));
}

#[test]
fn a_broker_that_dies_while_it_shows_anew_brings_nothing_back() {
    let mut scene = Scene::new();
    let view = scene.view();
    assert_eq!(scene.put(&view, "a", 1), Put::Done);
    scene
        .ask(Operation::Delete, &key("a"), &[])
        .expect("it is there");
    let mapping = Mapping::new(&scene.file).expect("a mapping");
    let area = last_area(&mapping);
    // As far as `Area::empty` has come when the heap's end is written and nothing else.
    let commit = area.field(Field::Commit);
    commit.store(
        (area::HEAP as u64) << 1,
        std::sync::atomic::Ordering::Release,
    );
    assert!(scene.begin_anew().is_empty());
}

#[test]
fn what_one_asks_for_is_shown_again() {
    let mut scene = Scene::new();
    let view = scene.view();
    assert_eq!(scene.put(&view, "a", 1), Put::Done);
    scene.with(Asked::Something, |_| ());
    let mapping = Mapping::new(&scene.file).expect("a mapping");
    let area = last_area(&mapping);
    let (bucket, _) = found(&area, "a");
    area.free(bucket);
    area.set(Field::Complete, 0);
    assert_eq!(scene.seen(&view, "a"), Sought::Ask);
    let (key, now) = (key("a"), scene.now);
    let asked = Asked::Value {
        table: "table",
        key: &key,
    };
    scene.with(asked, |stash| stash.expire(now));
    assert_eq!(scene.seen(&view, "a"), Sought::Value(number(1)));
    // With the next second all is shown that there is room for.
    assert_eq!(scene.seen(&view, "b"), Sought::Ask);
    scene.now = scene.mirror.lease_end().expect("there is one");
    scene.with(Asked::Something, |_| ());
    assert_eq!(scene.seen(&view, "b"), Sought::Missing);
}

#[test]
fn without_a_file_the_broker_is_asked() {
    let (mut mirror, put) = Mirror::open(None);
    assert!(put.is_empty());
    assert!(mirror.show(&Stash::default()).is_none());
    assert!(mirror.begin().is_empty());
    mirror.finish(&[], &Stash::default(), Asked::Something, SECOND);
    assert_eq!(mirror.lease_end(), None);
}

#[test]
fn nonsense_in_the_memory_costs_no_more_than_the_direct_way() {
    for (place, nonsense) in [
        (0, u64::MAX),
        (0, 0),
        (1, u64::MAX),
        (2, 1 << 40),
        (0, 2 << 32 | 4),
    ] {
        let mut scene = Scene::new();
        let view = scene.view();
        scene
            .ask(Operation::Put, &key("kept"), &number(7))
            .expect("room");
        assert_eq!(scene.put(&view, "a", 1), Put::Done);
        let mapping = Mapping::new(&scene.file).expect("a mapping");
        let area = last_area(&mapping);
        let (_, at) = found(&area, "a");
        area.spoil(at + place, nonsense);
        assert_ne!(scene.seen(&view, "a"), Sought::Value(number(1)));
        assert_eq!(
            scene.ask_number("kept"),
            Some(number(7)),
            "{place} {nonsense}"
        );
        let view = scene.view();
        assert_eq!(scene.seen(&view, "kept"), Sought::Value(number(7)));
    }
}

/// Any word, anywhere that matters, at any time: neither end panics, and what the broker has it keeps.
#[test]
fn whatever_is_written_there_the_broker_keeps_what_it_has() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20 {
        let mut scene = Scene::new();
        scene
            .ask(Operation::Put, &key("kept"), &number(7))
            .expect("room");
        let mut view = scene.view();
        for turn in 0..100 {
            if view.is_over() {
                let Some(file) = scene.mirror.show(&scene.stash) else {
                    break;
                };
                let file = file.try_clone_to_owned().expect("a descriptor");
                view = View::attach(&file).expect("a view");
            }
            let name = format!("key {}", next() % 4);
            let _ = scene.put(&view, &name, turn);
            let _ = scene.seen(&view, &name);
            let mapping = Mapping::new(&scene.file).expect("a mapping");
            let area = last_area(&mapping);
            let looked_for = name_of(&name);
            let bucket = area::INDEX + looked_for.hash as usize % area::BUCKETS;
            // But for the lock: whoever holds it for ever is another test's.
            let places = [0, 1, 3, 4, 5, 6, 7, 8, bucket, area::HEAP];
            let place = places[usize::try_from(next() % 10).expect("few")];
            let place = place + usize::try_from(next() % 8).expect("few") * usize::from(place > 8);
            let word = match next() % 5 {
                0 => next(),
                1 => next() % 64,
                2 => u64::MAX,
                3 => (u64::from(looked_for.hash) << 32) | (area::HEAP as u64 + next() % 64),
                _ => ((next() % 4) << 32) | (next() % 16),
            };
            area.spoil(place, word);
            let _ = scene.seen(&view, &name);
            if next() % 4 == 0 {
                let increment = scene.ask(Operation::Increment, &key("count"), &number(1));
                assert!(increment.is_ok());
            }
        }
        assert_eq!(scene.ask_number("kept"), Some(number(7)));
    }
}

#[test]
fn a_file_in_which_nothing_is_shown_gives_no_view() {
    let file = create_file().expect("a file of memory");
    let error = View::attach(&file).expect_err("nothing is shown");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

/// Several callers and a broker at once: each key has one writer, whose numbers only grow, and so do those that anybody
/// sees.
#[test]
fn nobody_sees_what_was_before_or_never_was() {
    const CALLERS: usize = 3;
    const LAST: i64 = 20_000;
    let mut scene = Scene::new();
    let views: Vec<View> = (0..CALLERS).map(|_| scene.view()).collect();
    let scene = std::sync::Mutex::new(scene);
    std::thread::scope(|threads| {
        for (own, view) in views.iter().enumerate() {
            let scene = &scene;
            threads.spawn(move || {
                let mut seen = [0; CALLERS];
                for value in 1..=LAST {
                    if view.put(
                        "table",
                        &key(&own.to_string()),
                        &text_of(value),
                        None,
                        SECOND,
                    ) == Put::Ask
                    {
                        let mut scene = scene.lock().expect("nobody panics");
                        let key = key(&own.to_string());
                        scene
                            .ask(Operation::Put, &key, &text_of(value))
                            .expect("room");
                    }
                    for (place, last) in seen.iter_mut().enumerate() {
                        if let Sought::Value(bytes) =
                            view.get("table", &key(&place.to_string()), SECOND)
                        {
                            let now = value_of(&bytes);
                            assert!(now >= *last, "{now} after {last}");
                            assert!(place != own || now == value, "{now}, not {value}");
                            *last = now;
                        }
                    }
                }
            });
        }
        threads.spawn(|| {
            for turn in 0..2000 {
                let mut scene = scene.lock().expect("nobody panics");
                let name = format!("other {turn}");
                scene
                    .ask(Operation::Put, &key(&name), &number(turn))
                    .expect("room");
                scene
                    .ask(Operation::Delete, &key(&name), &[])
                    .expect("it is there");
            }
        });
    });
    let mut scene = scene.into_inner().expect("nobody panicked");
    for own in 0..CALLERS {
        let value = scene.ask_number(&own.to_string()).expect("it is there");
        assert_eq!(value_of(&value), LAST);
    }
}

/// A number in many words, all of which tell it, so that a mixture of two is seen.
fn text_of(value: i64) -> Vec<u8> {
    bytes(Item::Text(&format!("{value:>08}").repeat(20)))
}

fn value_of(bytes: &[u8]) -> i64 {
    use oxicorn_proto::pool::Reader;
    let Ok(Some(Item::Text(text))) = Reader::new(bytes).next_item() else {
        panic!("a mixture: {bytes:?}");
    };
    let first = &text[..8];
    assert_eq!(text, first.repeat(20), "a mixture");
    first.parse().expect("a number")
}
