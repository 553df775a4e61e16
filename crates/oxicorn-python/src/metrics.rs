//! The applications' own metrics, from Python's side: `oxicorn.metrics` and `oxicorn.prometheus` are made of these.
//!
//! Every process that counts has the memory of the server by the fork. Where there is no server (a script, a config
//! file that is still being read) a process makes one for itself; the arbiter takes over what was counted there.
//!
//! Nothing here is locked across a fork: what a number is bound to is one word, and what it was bound to before a fork
//! is recognised by it.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

use oxicorn_gateway::application_metrics;
use oxicorn_link::metric_store::{
    DEFAULT_BYTES, Family, FamilyKind, GaugeMode, MetricStore, Number, Owner, Sample, Series,
};
use oxicorn_os::forked;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The store of this process; null: nobody has asked for it.
static STORE: AtomicPtr<MetricStore> = AtomicPtr::new(std::ptr::null_mut());

/// How often the store was replaced by another one.
static REPLACED: AtomicU32 = AtomicU32::new(0);

/// Who binds a gauge: the epoch of that process, and 0 for nobody. One at a time, see [`MetricStore::gauge`].
static BINDING: AtomicU32 = AtomicU32::new(0);

/// Bits of an epoch that count forks; the others count stores.
const FORK_BITS: u32 = 24;

/// Which process this is and which store it has, never 0: what was bound in another epoch is bound anew.
fn epoch() -> u32 {
    let forks = (forked::forks() + 1) & ((1 << FORK_BITS) - 1);
    REPLACED.load(Relaxed) << FORK_BITS | forks
}

const fn is_same_process(one: u32, other: u32) -> bool {
    (one ^ other) & ((1 << FORK_BITS) - 1) == 0
}

/// The server's store, or one for this process alone. `None`: there is no memory.
fn store() -> Option<&'static MetricStore> {
    let found = STORE.load(Acquire);
    // SAFETY: null, or a store that was leaked to be put there.
    if let Some(store) = unsafe { found.as_ref() } {
        return Some(store);
    }
    forked::count_forks();
    let (made, _file) = MetricStore::create(DEFAULT_BYTES).ok()?;
    let made = Box::into_raw(Box::new(made));
    let found = match STORE.compare_exchange(std::ptr::null_mut(), made, AcqRel, Acquire) {
        Ok(_) => made,
        Err(other) => {
            // SAFETY: made above, and nobody else has it.
            drop(unsafe { Box::from_raw(made) });
            other
        }
    };
    // SAFETY: one of the two, both leaked.
    unsafe { found.as_ref() }
}

/// By the arbiter, before it forks: the server's store of so many bytes, with what this process has counted so far.
pub(crate) fn share(bytes: usize) -> std::io::Result<OwnedFd> {
    forked::count_forks();
    let (made, file) = MetricStore::create(bytes)?;
    // SAFETY: as in `store`.
    if let Some(before) = unsafe { STORE.load(Acquire).as_ref() } {
        before.copy_to(&made);
    }
    // What was there stays: threads may be about to add to it. A process does this once.
    STORE.store(Box::into_raw(Box::new(made)), Release);
    REPLACED.fetch_add(1, Relaxed);
    Ok(file)
}

/// One number of a metric: a counter or a gauge, or a part of a histogram or summary.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct MetricValue {
    series: Series,
    /// The epoch it was bound in, and where it lies; a place of 0: there was no room.
    bound: AtomicU64,
    /// What this process has added to it; for a gauge without a place, the gauge.
    own: AtomicU64,
}

/// Where a number is kept, as of now.
struct Place {
    store: &'static MetricStore,
    number: Number,
}

impl MetricValue {
    fn is_gauge(&self) -> bool {
        self.series.family.kind == FamilyKind::Gauge
    }

    fn place(&self, py: Python<'_>) -> Option<Place> {
        let store = store()?;
        let bound = self.bound.load(Acquire);
        let raw = if bound >> 32 == u64::from(epoch()) {
            lower(bound)
        } else {
            self.bind(py, store)
        };
        Number::from_raw(raw).map(|number| Place { store, number })
    }

    /// Finds its place in the store, or makes one.
    #[cold]
    fn bind(&self, py: Python<'_>, store: &MetricStore) -> u32 {
        let epoch = epoch();
        let before = self.bound.load(Relaxed);
        if before != 0 && !is_same_process(upper(before), epoch) {
            // Of the process that forked this one.
            self.own.store(0, Relaxed);
        }
        let found = if self.is_gauge() {
            one_at_a_time(epoch, || store.gauge(&self.series, Owner::this()))
        } else {
            store.shared(&self.series)
        };
        let raw = found.map_or(0, Number::to_raw);
        self.bound
            .store(u64::from(epoch) << 32 | u64::from(raw), Release);
        if raw == 0 && store.count_refused() {
            tell_full(py, store);
        }
        raw
    }

    fn own(&self) -> f64 {
        f64::from_bits(self.own.load(Relaxed))
    }

    fn change_own(&self, change: impl Fn(f64) -> f64) -> f64 {
        let changed = |bits: u64| Some(change(f64::from_bits(bits)).to_bits());
        let before = self.own.fetch_update(Relaxed, Relaxed, changed);
        f64::from_bits(before.unwrap_or_else(|same| same))
    }
}

#[pymethods]
impl MetricValue {
    /// `kind` is `counter`, `gauge`, `histogram` or `summary`; `mode` a gauge's; `labels` (name, value).
    #[new]
    fn new(
        py: Python<'_>,
        kind: &str,
        family: String,
        help: String,
        mode: Option<&str>,
        suffix: String,
        mut labels: Vec<(String, String)>,
    ) -> PyResult<Self> {
        let kind = FamilyKind::of_name(kind)
            .ok_or_else(|| PyValueError::new_err(format!("no kind of metric: {kind}")))?;
        let mode = (kind == FamilyKind::Gauge).then(|| mode.unwrap_or("all"));
        let mode = mode.map(|name| {
            GaugeMode::of_name(name)
                .ok_or_else(|| PyValueError::new_err(format!("Invalid multiprocess mode: {name}")))
        });
        labels.sort_unstable();
        let value = Self {
            series: Series {
                family: Family {
                    name: family,
                    kind,
                    mode: mode.transpose()?,
                    help,
                },
                suffix,
                labels,
            },
            bound: AtomicU64::new(0),
            own: AtomicU64::new(0),
        };
        // It is shown from its declaration on.
        value.place(py);
        Ok(value)
    }

    /// Adds to it.
    fn inc(&self, py: Python<'_>, amount: f64) {
        let place = self.place(py);
        match place {
            Some(Place { store, number }) if self.is_gauge() => store.add_gauge(number, amount),
            place => {
                if let Some(Place { store, number }) = place {
                    store.add(number, amount);
                }
                self.change_own(|own| own + amount);
            }
        }
    }

    /// Sets what this process has of it. `timestamp` in seconds since 1970.
    #[pyo3(signature = (value, timestamp = None))]
    fn set(&self, py: Python<'_>, value: f64, timestamp: Option<f64>) {
        let place = self.place(py);
        match place {
            Some(Place { store, number }) if self.is_gauge() => {
                store.set_gauge(number, value, timestamp.unwrap_or(0.0));
            }
            place => {
                let before = self.change_own(|_| value);
                if let Some(Place { store, number }) = place {
                    store.add(number, value - before);
                }
            }
        }
    }

    /// What this process has of it.
    fn get(&self, py: Python<'_>) -> f64 {
        match self.place(py) {
            Some(Place { store, number }) if self.is_gauge() => store.get_gauge(number),
            _ => self.own(),
        }
    }

    /// Whether there was room for it.
    fn is_kept(&self, py: Python<'_>) -> bool {
        self.place(py).is_some()
    }
}

/// Runs `body` while no other thread of this process does. The word names the process, so one that a thread of a
/// parent left locked is free.
fn one_at_a_time<T>(epoch: u32, body: impl FnOnce() -> T) -> T {
    loop {
        let holder = BINDING.load(Relaxed);
        let is_free = holder == 0 || !is_same_process(holder, epoch);
        if is_free
            && BINDING
                .compare_exchange(holder, epoch, Acquire, Relaxed)
                .is_ok()
        {
            break;
        }
        std::thread::yield_now();
    }
    let result = body();
    BINDING.store(0, Release);
    result
}

#[cold]
fn tell_full(py: Python<'_>, store: &MetricStore) {
    let (family, sizes) = store.largest().unwrap_or_default();
    let told = py
        .import("oxicorn.metrics")
        .and_then(|module| module.call_method1("tell_full", (store.len(), family, sizes)));
    // Whoever counts must not fail because a log does.
    drop(told);
}

#[expect(clippy::cast_possible_truncation, reason = "a half")]
const fn lower(word: u64) -> u32 {
    word as u32
}

const fn upper(word: u64) -> u32 {
    lower(word >> 32)
}

/// All of the applications' own metrics, of every process, as text.
#[pyfunction]
pub(crate) fn metrics_text(py: Python<'_>, open_metrics: bool) -> String {
    store().map_or_else(String::new, |store| {
        py.detach(|| application_metrics(store, open_metrics))
    })
}

/// A sample: what follows the name, labels, the number.
type SampleRow = (String, Vec<(String, String)>, f64);

/// The same as objects: name, kind, help and samples of each family.
#[pyfunction]
pub(crate) fn metrics_families(
    py: Python<'_>,
) -> Vec<(String, &'static str, String, Vec<SampleRow>)> {
    let families = store().map_or_else(Vec::new, |store| py.detach(|| store.read()));
    let row = |sample: Sample| (sample.suffix, sample.labels, sample.value);
    let families = families.into_iter().map(|family| {
        let samples = family.samples.into_iter().map(row).collect();
        (family.name, family.kind.name(), family.help, samples)
    });
    families.collect()
}

/// Bytes of the store, and how many label sets it had no room for.
#[pyfunction]
pub(crate) fn metrics_memory() -> (usize, u64) {
    store().map_or((0, 0), |store| (store.len(), store.refused()))
}
