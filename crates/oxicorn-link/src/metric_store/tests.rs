//! The store as its users see it: several processes, threads at once, no room left, and nonsense in it.

#![expect(
    clippy::float_cmp,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "small numbers, added up exactly, and nonsense"
)]

use std::process::Command;
use std::sync::Barrier;
use std::thread;

use super::*;

fn family(name: &str, kind: FamilyKind, mode: Option<GaugeMode>) -> Family {
    Family {
        name: name.into(),
        kind,
        mode,
        help: "Help.".into(),
    }
}

fn series(family: Family, suffix: &str, labels: &[(&str, &str)]) -> Series {
    Series {
        family,
        suffix: suffix.into(),
        labels: labels
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
    }
}

fn counter(name: &str, label: &str) -> Series {
    series(
        family(name, FamilyKind::Counter, None),
        "_total",
        &[("kind", label)],
    )
}

fn gauge(mode: GaugeMode) -> Series {
    series(family("level", FamilyKind::Gauge, Some(mode)), "", &[])
}

fn values(store: &MetricStore) -> Vec<f64> {
    store
        .read()
        .iter()
        .flat_map(|family| family.samples.iter().map(|sample| sample.value))
        .collect()
}

/// Somebody who has ended.
fn departed(started: u32) -> Owner {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id().cast_signed();
    child.wait().unwrap();
    Owner { pid, started }
}

#[test]
fn what_one_counts_another_reads() {
    let (store, file) = MetricStore::create(LEAST_BYTES).unwrap();
    let other = MetricStore::attach(&file).unwrap();
    assert!(other.is_empty() && other.read().is_empty());
    let number = store.shared(&counter("sold", "book")).unwrap();
    store.add(number, 2.0);
    other.add(other.shared(&counter("sold", "book")).unwrap(), 0.5);
    store.shared(&counter("sold", "pen")).unwrap();
    let read = other.read();
    assert_eq!(read.len(), 1);
    assert_eq!(
        (read[0].name.as_str(), read[0].kind),
        ("sold", FamilyKind::Counter)
    );
    assert_eq!(values(&other), [2.5, 0.0]);
    assert_eq!(read[0].samples[0].labels, [("kind".into(), "book".into())]);
    assert_eq!(read[0].samples[0].suffix, "_total");
}

#[test]
fn threads_that_meet_a_series_at_once_share_one_and_lose_nothing() {
    const THREADS: usize = 4;
    const EACH: usize = 500;
    let (store, _file) = MetricStore::create(1 << 20).unwrap();
    let start = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for number in 0..EACH {
                    let series = counter("sold", &number.to_string());
                    store.add(store.shared(&series).unwrap(), 1.0);
                }
            });
        }
    });
    let read = store.read();
    assert_eq!(read[0].samples.len(), EACH);
    assert!(
        read[0]
            .samples
            .iter()
            .all(|sample| sample.value == THREADS as f64)
    );
}

#[test]
fn a_full_store_refuses_new_label_sets_and_keeps_the_others() {
    let (store, _file) = MetricStore::create(LEAST_BYTES).unwrap();
    let mut kept = 0;
    while let Ok(number) = store.shared(&counter("views", &format!("/page/{kept}"))) {
        store.add(number, 1.0);
        kept += 1;
    }
    assert!(kept > 300, "{kept} label sets");
    let again = store.shared(&counter("views", "/page/0")).unwrap();
    store.add(again, 1.0);
    assert_eq!(store.get(again), 2.0);
    assert_eq!(values(&store).len(), kept);
    assert_eq!(store.largest(), Some(("views".into(), kept)));
    assert!(store.count_refused() && !store.count_refused());
    assert_eq!(store.refused(), 2);
    let long = "x".repeat(LONGEST_KEY);
    assert_eq!(store.shared(&counter("views", &long)), Err(StoreFull));
}

#[test]
fn buckets_are_counted_up_and_a_histogram_that_is_not_whole_is_left_out() {
    let (store, _file) = MetricStore::create(LEAST_BYTES).unwrap();
    let part = |suffix: &str, labels: &[(&str, &str)], amount: f64| {
        let part = series(family("took", FamilyKind::Histogram, None), suffix, labels);
        store.add(store.shared(&part).unwrap(), amount);
    };
    part("_sum", &[], 12.5);
    part("_bucket", &[("le", "+Inf")], 1.0);
    part("_bucket", &[("le", "2.0")], 3.0);
    part("_bucket", &[("le", "10.0")], 2.0);
    part("_sum", &[("path", "/")], 1.0);
    part("_bucket", &[("le", "1.0"), ("path", "/")], 1.0);
    let read = store.read();
    let shown: Vec<_> = read[0]
        .samples
        .iter()
        .map(|sample| (sample.suffix.as_str(), sample.value))
        .collect();
    assert_eq!(
        shown,
        [
            ("_bucket", 3.0),
            ("_bucket", 5.0),
            ("_bucket", 6.0),
            ("_count", 6.0),
            ("_sum", 12.5)
        ]
    );
    assert_eq!(read[0].samples[1].labels, [("le".into(), "10.0".into())]);
}

#[test]
fn gauges_of_living_and_departed_processes_are_told_by_their_mode() {
    let (gone, here) = (departed(1), Owner::this());
    for (mode, expected) in [
        (GaugeMode::Min, vec![3.0]),
        (GaugeMode::LiveMin, vec![5.0]),
        (GaugeMode::Max, vec![5.0]),
        (GaugeMode::LiveMax, vec![5.0]),
        (GaugeMode::Sum, vec![8.0]),
        (GaugeMode::LiveSum, vec![5.0]),
        (GaugeMode::MostRecent, vec![3.0]),
        (GaugeMode::LiveMostRecent, vec![5.0]),
        (GaugeMode::LiveAll, vec![5.0]),
    ] {
        let (store, _file) = MetricStore::create(LEAST_BYTES).unwrap();
        let number = store.gauge(&gauge(mode), gone).unwrap();
        store.set_gauge(number, 3.0, 200.0);
        assert_eq!(
            values(&store).len(),
            usize::from(!mode.is_live()),
            "{}",
            mode.name()
        );
        let number = store.gauge(&gauge(mode), here).unwrap();
        assert_eq!(store.get_gauge(number), 0.0, "a number of its own");
        store.set_gauge(number, 4.0, 100.0);
        store.add_gauge(number, 1.0);
        assert_eq!(values(&store), expected, "{}", mode.name());
    }
}

#[test]
fn each_process_is_shown_by_itself_where_all_are_to_be() {
    let (store, _file) = MetricStore::create(LEAST_BYTES).unwrap();
    let here = Owner::this();
    for owner in [departed(1), here] {
        let number = store.gauge(&gauge(GaugeMode::All), owner).unwrap();
        store.set_gauge(number, f64::from(owner.pid), 0.0);
    }
    let read = store.read();
    let samples = &read[0].samples;
    assert_eq!(samples.len(), 2);
    for sample in samples {
        assert_eq!(sample.labels, [("pid".into(), sample.value.to_string())]);
    }
}

#[test]
fn processes_that_come_and_go_need_no_more_room() {
    let (store, _file) = MetricStore::create(LEAST_BYTES).unwrap();
    let gone = departed(1);
    for mode in [GaugeMode::Sum, GaugeMode::All, GaugeMode::LiveAll] {
        let mut used = 0;
        for started in 1..1000 {
            let number = store
                .gauge(&gauge(mode), Owner { started, ..gone })
                .unwrap();
            store.add_gauge(number, 1.0);
            if started == 100 {
                used = store.word(USED_AT).load(Relaxed);
            }
        }
        assert_eq!(store.word(USED_AT).load(Relaxed), used, "{}", mode.name());
    }
    let sum = gauge(GaugeMode::Sum);
    let (store, _file) = MetricStore::create(LEAST_BYTES).unwrap();
    for started in 1..1000 {
        store.add_gauge(store.gauge(&sum, Owner { started, ..gone }).unwrap(), 1.0);
    }
    assert_eq!(values(&store), [999.0], "what they left is counted");
}

#[test]
fn a_gauge_that_was_never_set_is_not_the_most_recent_one() {
    let (store, _file) = MetricStore::create(LEAST_BYTES).unwrap();
    store
        .gauge(&gauge(GaugeMode::MostRecent), Owner::this())
        .unwrap();
    assert!(values(&store).is_empty());
}

#[test]
fn what_was_declared_last_is_what_a_name_means() {
    let (store, _file) = MetricStore::create(LEAST_BYTES).unwrap();
    store.add(store.shared(&counter("sold", "book")).unwrap(), 7.0);
    let now = series(
        family("sold", FamilyKind::Gauge, Some(GaugeMode::Sum)),
        "",
        &[],
    );
    store.add_gauge(store.gauge(&now, Owner::this()).unwrap(), 2.0);
    assert_eq!(values(&store), [2.0]);
    assert_eq!(store.read()[0].kind, FamilyKind::Gauge);
}

#[test]
fn a_store_takes_over_what_another_one_has() {
    let (old, _file) = MetricStore::create(LEAST_BYTES).unwrap();
    let (new, _file) = MetricStore::create(2 * LEAST_BYTES).unwrap();
    old.add(old.shared(&counter("sold", "book")).unwrap(), 7.0);
    let level = gauge(GaugeMode::LiveAll);
    old.set_gauge(old.gauge(&level, Owner::this()).unwrap(), 3.0, 0.0);
    old.copy_to(&new);
    assert_eq!(new.read(), old.read());
    assert_eq!(
        new.get_gauge(new.gauge(&level, Owner::this()).unwrap()),
        3.0
    );
}

#[test]
fn nonsense_is_readable() {
    let (store, file) = MetricStore::create(LEAST_BYTES).unwrap();
    for number in 0..200 {
        store.shared(&counter("sold", &number.to_string())).unwrap();
        store.gauge(&gauge(GaugeMode::Min), Owner::this()).unwrap();
    }
    let scribbler = oxicorn_os::mapping::Mapping::new(&file).unwrap();
    // A small generator: every run scribbles the same.
    let mut seed = 1_u64;
    for round in 0..20_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = USED_AT + usize::try_from(seed >> 33).unwrap() % (LEAST_BYTES - USED_AT - 8);
        let word = scribbler.atomic_u32(at & !3);
        word.store((seed >> 20) as u32 >> (seed % 32), Relaxed);
        if round % 500 == 0 {
            store.read();
            store.largest();
            let _ = store.shared(&counter("more", &round.to_string()));
            let _ = store.gauge(&gauge(GaugeMode::Max), Owner::this());
        }
    }
}

#[test]
fn other_files_are_refused() {
    let refused = |file: OwnedFd| MetricStore::attach(file).unwrap_err();
    let unsealed = memfd::with_content("test", &vec![0; LEAST_BYTES]).unwrap();
    assert!(matches!(refused(unsealed), AttachError::NotSealed));
    for len in [4096, LEAST_BYTES] {
        let zeros = memfd::create_sealed("test", len).unwrap();
        assert!(matches!(refused(zeros), AttachError::NotALink), "{len}");
    }
}
