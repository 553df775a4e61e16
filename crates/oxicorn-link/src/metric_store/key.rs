//! How families and series are written down as keys: each in one way only, and read back without trust.

use super::{Family, FamilyKind, GaugeMode, Index};

/// Kind, mode, the name with its length, the help.
pub(super) fn of_family(family: &Family) -> Vec<u8> {
    let mut key = vec![family.kind.as_u8(), family.mode.map_or(0, GaugeMode::as_u8)];
    put(&mut key, &family.name);
    key.extend(family.help.as_bytes());
    key
}

pub(super) fn family(key: &[u8]) -> Option<Family> {
    let ([kind, mode], mut rest) = key.split_first_chunk()?;
    let name = take(&mut rest)?;
    Some(Family {
        name,
        kind: FamilyKind::from_u8(*kind)?,
        mode: GaugeMode::from_u8(*mode),
        help: text(rest)?,
    })
}

/// The family's place, then suffix, and names and values of the labels, each with its length.
pub(super) fn of_series(family: Index, suffix: &str, labels: &[(String, String)]) -> Vec<u8> {
    let mut key = family.to_ne_bytes().to_vec();
    put(&mut key, suffix);
    for (name, value) in labels {
        put(&mut key, name);
        put(&mut key, value);
    }
    key
}

/// Family, suffix, labels.
pub(super) type SeriesKey = (Index, String, Vec<(String, String)>);

pub(super) fn series(key: &[u8]) -> Option<SeriesKey> {
    let (family, mut rest) = key.split_first_chunk()?;
    let suffix = take(&mut rest)?;
    let mut labels = Vec::new();
    while !rest.is_empty() {
        labels.push((take(&mut rest)?, take(&mut rest)?));
    }
    Some((Index::from_ne_bytes(*family), suffix, labels))
}

/// A text that is longer than its length can say makes a key that is too long anyway.
fn put(key: &mut Vec<u8>, text: &str) {
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    key.extend(len.to_ne_bytes());
    key.extend(text.as_bytes());
}

fn take(rest: &mut &[u8]) -> Option<String> {
    let (len, after) = rest.split_first_chunk()?;
    let len = usize::try_from(u32::from_ne_bytes(*len)).ok()?;
    let (found, after) = after.split_at_checked(len)?;
    *rest = after;
    text(found)
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}
