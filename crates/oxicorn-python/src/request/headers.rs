//! What environ and scope read alike from a request's headers.

use oxicorn_link::wire::{RequestView, Version};
use pyo3::prelude::*;

/// Header names remembered; a bound, since clients choose the names. A power of two.
const REMEMBERED_NAMES: usize = 256;

/// A name and what it becomes.
type Remembered<T> = (Box<[u8]>, Py<T>);

/// Header name, as the client wrote it -> the Python object it becomes, remembered in a table where each
/// name has one place. A name that finds its place taken takes it over, so no choice of names makes it
/// grow or slow.
pub(crate) struct HeaderNames<T> {
    places: Vec<Option<Remembered<T>>>,
}

impl<T> Default for HeaderNames<T> {
    fn default() -> Self {
        Self {
            places: (0..REMEMBERED_NAMES).map(|_| None).collect(),
        }
    }
}

impl<T> HeaderNames<T> {
    /// What `name` becomes; `make` is called where that is not remembered.
    pub(crate) fn get<'a, 'py>(
        &'a mut self,
        py: Python<'py>,
        name: &[u8],
        make: impl FnOnce() -> Bound<'py, T>,
    ) -> &'a Bound<'py, T> {
        let place = &mut self.places[place_of(name)];
        if place.as_ref().is_none_or(|(known, _)| **known != *name) {
            *place = Some((name.into(), make().unbind()));
        }
        let (_, object) = place.as_ref().expect("just filled");
        object.bind(py)
    }
}

/// Mixes length and three bytes: enough to keep the usual header names apart.
fn place_of(name: &[u8]) -> usize {
    let at = |index: usize| usize::from(name.get(index).copied().unwrap_or(0));
    let last = at(name.len().wrapping_sub(1));
    let middle = at(name.len() / 2);
    (name.len() * 7 + at(0) * 31 + middle * 131 + last * 17) % REMEMBERED_NAMES
}

/// Whether the client said `TE: trailers` (RFC 9110 section 10.1.4), in a version that has them; who speaks HTTP/2 takes
/// them in any case.
pub(crate) fn takes_trailers(view: &RequestView<'_>) -> bool {
    let names_trailers = |value: &[u8]| {
        let mut codings = value.split(|&byte| byte == b',');
        codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    };
    let by_frames = matches!(view.head.version, Version::Http2 | Version::Http3);
    by_frames
        || view.head.version != Version::Http10
            && view
                .headers
                .iter()
                .any(|(name, value)| name.eq_ignore_ascii_case(b"te") && names_trailers(value))
}
