//! What is made of the numbers of several processes, as `prometheus_client`'s multiprocess mode makes it.

use std::collections::{BTreeMap, HashMap};

use super::gauge::{GaugeMode, GaugeReading};
use super::reading::{Found, FoundFamily, FoundNumber};
use super::{FamilyKind, Index, Owner};

/// A family with its samples.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilyReading {
    /// Without `_total`.
    pub name: String,
    /// What it is.
    pub kind: FamilyKind,
    /// One line for people.
    pub help: String,
    /// In the order of the labels; buckets in that of their bounds, counted up.
    pub samples: Vec<Sample>,
}

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What follows the family's name.
    pub suffix: String,
    /// Name and value.
    pub labels: Labels,
    /// The number.
    pub value: f64,
}

type Labels = Vec<(String, String)>;

/// Families of one name are one family: the one that was declared last says what it is, and those that say something
/// else (code of before a reload, perhaps) are left out.
pub(super) fn merged(families: Vec<FoundFamily>) -> Vec<FamilyReading> {
    let mut by_name: BTreeMap<String, Vec<FoundFamily>> = BTreeMap::new();
    for found in families {
        by_name.entry(found.1.name.clone()).or_default().push(found);
    }
    let mut alive = Alive::default();
    by_name
        .into_values()
        .filter_map(|found| merge_family(found, &mut alive))
        .collect()
}

fn merge_family(found: Vec<FoundFamily>, alive: &mut Alive) -> Option<FamilyReading> {
    let latest: &(Index, _, _) = found.iter().max_by_key(|(index, ..)| *index)?;
    let family = latest.1.clone();
    let numbers = found
        .into_iter()
        .filter(|(_, other, _)| (other.kind, other.mode) == (family.kind, family.mode))
        .flat_map(|(.., numbers)| numbers);
    let samples = match family.kind {
        FamilyKind::Counter | FamilyKind::Summary => sums(numbers),
        FamilyKind::Histogram => histograms(numbers),
        FamilyKind::Gauge => gauges(numbers, family.mode.unwrap_or(GaugeMode::All), alive),
    };
    // A family that is only declared is shown all the same, without numbers.
    Some(FamilyReading {
        name: family.name,
        kind: family.kind,
        help: family.help,
        samples,
    })
}

fn shared(numbers: impl Iterator<Item = Found>) -> impl Iterator<Item = (String, Labels, f64)> {
    numbers.filter_map(|found| match found.number {
        FoundNumber::Shared(value) => Some((found.suffix, found.labels, value)),
        FoundNumber::Gauge(_) => None,
    })
}

fn sums(numbers: impl Iterator<Item = Found>) -> Vec<Sample> {
    let mut sums: BTreeMap<(Labels, String), f64> = BTreeMap::new();
    for (suffix, labels, value) in shared(numbers) {
        *sums.entry((labels, suffix)).or_default() += value;
    }
    let sample = |((labels, suffix), value)| Sample {
        suffix,
        labels,
        value,
    };
    sums.into_iter().map(sample).collect()
}

/// The parts of a histogram with certain labels.
#[derive(Default)]
struct Histogram {
    /// Bound, as a number and as text, and how many observations lie between it and the one before.
    buckets: Vec<(f64, String, f64)>,
    sum: f64,
}

/// Those without a last bucket are left out: there was no room for all of their parts.
fn histograms(numbers: impl Iterator<Item = Found>) -> Vec<Sample> {
    let mut histograms: BTreeMap<Labels, Histogram> = BTreeMap::new();
    for (suffix, labels, value) in shared(numbers) {
        let bound = labels.iter().find(|(name, _)| name == "le");
        let bound = bound.map(|(_, text)| text.clone());
        let histogram = histograms.entry(without(labels, "le")).or_default();
        match (suffix.as_str(), bound) {
            ("_sum", None) => histogram.sum += value,
            ("_bucket", Some(text)) => histogram.count(text, value),
            _ => {}
        }
    }
    histograms
        .into_iter()
        .filter_map(|(labels, histogram)| histogram.samples(labels))
        .flatten()
        .collect()
}

impl Histogram {
    fn count(&mut self, text: String, value: f64) {
        let Ok(bound) = text.parse::<f64>() else {
            return;
        };
        match self
            .buckets
            .iter_mut()
            .find(|(other, ..)| other.total_cmp(&bound).is_eq())
        {
            Some((_, _, counted)) => *counted += value,
            None => self.buckets.push((bound, text, value)),
        }
    }

    fn samples(mut self, labels: Labels) -> Option<Vec<Sample>> {
        self.buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        if self.buckets.last()?.0 != f64::INFINITY {
            return None;
        }
        let sample = |suffix: &str, labels: Labels, value| Sample {
            suffix: suffix.into(),
            labels,
            value,
        };
        let mut count = 0.0;
        let mut samples = Vec::with_capacity(self.buckets.len() + 2);
        for (_, text, value) in self.buckets {
            count += value;
            let mut labels = labels.clone();
            labels.push(("le".into(), text));
            samples.push(sample("_bucket", labels, count));
        }
        samples.push(sample("_count", labels.clone(), count));
        samples.push(sample("_sum", labels, self.sum));
        Some(samples)
    }
}

/// Which owners live, each asked about once.
#[derive(Default)]
struct Alive(HashMap<Owner, bool>);

impl Alive {
    fn is(&mut self, owner: Owner) -> bool {
        *(self.0.entry(owner)).or_insert_with(|| owner.is_alive())
    }
}

fn gauges(numbers: impl Iterator<Item = Found>, mode: GaugeMode, alive: &mut Alive) -> Vec<Sample> {
    // The number, and when it was set.
    let mut gauges: BTreeMap<Labels, (f64, f64)> = BTreeMap::new();
    for found in numbers {
        let FoundNumber::Gauge(reading) = found.number else {
            continue;
        };
        let own =
            (!mode.is_live() || alive.is(reading.owner)).then_some((reading.value, reading.time));
        let left = reading.left.filter(|_| !mode.is_live());
        let labels = labels_of(found.labels, mode, &reading);
        for (value, time) in own.into_iter().chain(left) {
            take_in(&mut gauges, &labels, mode, (value, time));
        }
    }
    let sample = |(labels, (value, _))| Sample {
        suffix: String::new(),
        labels,
        value,
    };
    gauges.into_iter().map(sample).collect()
}

fn labels_of(labels: Labels, mode: GaugeMode, reading: &GaugeReading) -> Labels {
    if !matches!(mode, GaugeMode::All | GaugeMode::LiveAll) {
        return labels;
    }
    let mut labels = without(labels, "pid");
    labels.push(("pid".into(), reading.owner.pid.to_string()));
    labels
}

fn take_in(
    gauges: &mut BTreeMap<Labels, (f64, f64)>,
    labels: &Labels,
    mode: GaugeMode,
    (value, time): (f64, f64),
) {
    // One that was never set is not the most recent one.
    if matches!(mode, GaugeMode::MostRecent | GaugeMode::LiveMostRecent) && time <= 0.0 {
        return;
    }
    let Some(current) = gauges.get_mut(labels) else {
        gauges.insert(labels.clone(), (value, time));
        return;
    };
    match mode {
        GaugeMode::All | GaugeMode::LiveAll => *current = (value, time),
        GaugeMode::Min | GaugeMode::LiveMin => current.0 = current.0.min(value),
        GaugeMode::Max | GaugeMode::LiveMax => current.0 = current.0.max(value),
        GaugeMode::Sum | GaugeMode::LiveSum => current.0 += value,
        GaugeMode::MostRecent | GaugeMode::LiveMostRecent => {
            if time > current.1 {
                *current = (value, time);
            }
        }
    }
}

pub(super) fn without(mut labels: Labels, name: &str) -> Labels {
    labels.retain(|(other, _)| other != name);
    labels
}
