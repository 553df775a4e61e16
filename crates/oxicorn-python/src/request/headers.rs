//! What environ and scope read alike from a request's headers.

use oxicorn_link::wire::{RequestView, Version};
use pyo3::prelude::*;

/// Header names remembered; a bound, since clients choose the names. A power of two.
pub(crate) const REMEMBERED_NAMES: usize = 256;

/// Bytes of a value that is remembered with its name at most: as long as what browsers say in each request.
const REMEMBERED_VALUE: usize = 128;

/// Values of these are never remembered: how long the look for one takes would tell something of another client's.
const SECRET: [&[u8]; 3] = [b"authorization", b"cookie", b"proxy-authorization"];

/// Header name, as the client wrote it -> the Python object it becomes, and what was made of the value it had
/// last: most clients say the same in each request. Remembered in a table where each name has one place. A
/// name that finds its place taken takes it over, so no choice of names makes it grow or slow.
pub(crate) struct KnownHeaders<K, V> {
    places: Vec<Option<Known<K, V>>>,
}

struct Known<K, V> {
    name: Box<[u8]>,
    key: Py<K>,
    is_secret: bool,
    /// The last value, and what was made of it.
    value: Vec<u8>,
    object: Option<Py<V>>,
}

impl<K, V> Default for KnownHeaders<K, V> {
    fn default() -> Self {
        Self {
            places: (0..REMEMBERED_NAMES).map(|_| None).collect(),
        }
    }
}

impl<K, V> KnownHeaders<K, V> {
    /// What `name` becomes, and what is made of both; `make_key` and `make` are called where that is not
    /// remembered.
    pub(crate) fn get<'a, 'py>(
        &'a mut self,
        py: Python<'py>,
        (name, value): (&[u8], &[u8]),
        make_key: impl FnOnce() -> Bound<'py, K>,
        make: impl FnOnce(&Bound<'py, K>) -> Bound<'py, V>,
    ) -> (&'a Bound<'py, K>, Bound<'py, V>) {
        let place = &mut self.places[place_of(name)];
        if place.as_ref().is_none_or(|known| *known.name != *name) {
            *place = Some(Known::new(name, make_key().unbind()));
        }
        let known = place.as_mut().expect("just filled");
        let object = known.object_of(py, value, make);
        (known.key.bind(py), object)
    }
}

impl<K, V> Known<K, V> {
    fn new(name: &[u8], key: Py<K>) -> Self {
        Self {
            name: name.into(),
            key,
            is_secret: SECRET.iter().any(|one| name.eq_ignore_ascii_case(one)),
            value: Vec::new(),
            object: None,
        }
    }

    fn object_of<'py>(
        &mut self,
        py: Python<'py>,
        value: &[u8],
        make: impl FnOnce(&Bound<'py, K>) -> Bound<'py, V>,
    ) -> Bound<'py, V> {
        if let Some(object) = &self.object
            && *self.value == *value
        {
            return object.bind(py).clone();
        }
        let object = make(self.key.bind(py));
        if !self.is_secret && value.len() <= REMEMBERED_VALUE {
            self.value.clear();
            self.value.extend_from_slice(value);
            self.object = Some(object.clone().unbind());
        }
        object
    }
}

/// Mixes length and three bytes: enough to keep the usual header names apart.
pub(crate) fn place_of(name: &[u8]) -> usize {
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
