//! Everything in the store, as far as it makes sense; and a store's content in another one.

use std::collections::HashMap;

use super::gauge::GaugeReading;
use super::merge::{self, FamilyReading};
use super::{EntryKind, Family, FamilyKind, Index, MetricStore, Series, StoreFull, key, load};

/// A number with what it belongs to.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) suffix: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) number: FoundNumber,
}

#[derive(Debug)]
pub(super) enum FoundNumber {
    Shared(f64),
    Gauge(GaugeReading),
}

/// A family with its place, and what belongs to it.
pub(super) type FoundFamily = (Index, Family, Vec<Found>);

impl MetricStore {
    /// What there is to expose, in the order of the names. `_bucket`s are counted up as their format wants it.
    pub fn read(&self) -> Vec<FamilyReading> {
        merge::merged(self.find_all())
    }

    fn find_all(&self) -> Vec<FoundFamily> {
        let mut families: HashMap<Index, FoundFamily> = HashMap::new();
        let mut numbers = Vec::new();
        // Keys that say they overlap must not cost more than a store that is full.
        let mut bytes = self.len();
        for index in self.entries() {
            let Some(found) = self.key(index) else {
                continue;
            };
            bytes = bytes.saturating_sub(found.len());
            if bytes == 0 {
                break;
            }
            let number = match self.kind(index) {
                Some(EntryKind::Family) => {
                    if let Some(family) = key::family(&found) {
                        families.insert(index, (index, family, Vec::new()));
                    }
                    continue;
                }
                Some(EntryKind::Shared) => FoundNumber::Shared(load(self.cell(index, 0))),
                Some(EntryKind::Gauge) => FoundNumber::Gauge(self.read_gauge(index)),
                None => continue,
            };
            if let Some((family, suffix, labels)) = key::series(&found) {
                let found = Found {
                    suffix,
                    labels,
                    number,
                };
                numbers.push((family, found));
            }
        }
        for (family, found) in numbers {
            if let Some((_, family, all)) = families.get_mut(&family)
                && (family.kind == FamilyKind::Gauge)
                    == matches!(found.number, FoundNumber::Gauge(_))
            {
                all.push(found);
            }
        }
        families.into_values().collect()
    }

    /// Puts everything there is into `other`, on top of what that has; what does not fit is left out.
    pub fn copy_to(&self, other: &Self) {
        for (_, family, numbers) in self.find_all() {
            for Found {
                suffix,
                labels,
                number,
            } in numbers
            {
                let series = Series {
                    family: family.clone(),
                    suffix,
                    labels,
                };
                // What is refused is told of where it is declared.
                let _: Result<(), StoreFull> = match number {
                    FoundNumber::Shared(value) => {
                        other.shared(&series).map(|number| other.add(number, value))
                    }
                    FoundNumber::Gauge(GaugeReading {
                        owner, value, time, ..
                    }) => other
                        .gauge(&series, owner)
                        .map(|number| other.set_gauge(number, value, time)),
                };
            }
        }
    }

    /// The family with the most label sets, and how many it has.
    pub fn largest(&self) -> Option<(String, usize)> {
        let sizes = self.find_all().into_iter().map(|(_, family, numbers)| {
            let mut sets: Vec<_> = numbers
                .into_iter()
                .map(|found| merge::without(found.labels, "le"))
                .collect();
            sets.sort_unstable();
            sets.dedup();
            (family.name, sets.len())
        });
        sizes.max_by_key(|(_, size)| *size)
    }
}
