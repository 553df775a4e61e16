//! Calls and answers that are passed on unread: payloads as they are on the wire, and beside them the bytes of large values,
//! each a buffer with the place that it has in the memory file.
//!
//! A worker whose applications are elsewhere (`oxicorn.dirty.ray_worker`) [reads](read) them from its lane and sends them to
//! where the application is. There they are opened ([`pool_open`]) and the answers sealed ([`pool_seal`]), by what any worker
//! reads and writes with: so a value is the same, or is refused, in either pool, and who only passes it on imports nothing
//! for it and unpickles nothing.

use std::os::fd::OwnedFd;

use oxicorn_proto::pool::{Fault, Fields, PAYLOAD_MAX, externals};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::call::{Call, Known, Manner};
use super::decode::Decoder;
use super::encode::{Dialect, Encoder};
use super::limit::Limit;
use super::outside::{BYTES, Outside, Part, Parts};
use super::wire::Arrived;
use super::{EXTERNAL_MAX, protocol_error};

/// Arguments, keywords, and how answers are to be written: whether in oxicorn's own dialect, and whether pickled.
type Opened<'py> = (Bound<'py, PyTuple>, Bound<'py, PyDict>, (bool, bool));

/// The call that such bytes are: its arguments, and what [`pool_seal`] needs. `DirtyProtocolError`: it cannot be read.
#[pyfunction]
pub(crate) fn pool_open<'py>(
    py: Python<'py>,
    payload: &[u8],
    parts: Parts<'py>,
    unpickles: bool,
) -> PyResult<Opened<'py>> {
    let parts = parts_of(parts)?;
    let outside = Outside::Parts(&parts);
    let mut decoder = Decoder::new(py, payload, outside, unpickles, Limit::default());
    let mut known = Known::default();
    let call = Call::read(py, &mut decoder, &mut known)?;
    let is_extended = known.manner.dialect == Dialect::Extended;
    Ok((call.args, call.kwargs, (is_extended, known.manner.pickled)))
}

/// The payload of an answer, and what lies beside it; `name` is what an error calls the value. `DirtyProtocolError`: it
/// cannot be sent.
#[pyfunction]
pub(crate) fn pool_seal<'py>(
    py: Python<'py>,
    name: &str,
    value: &Bound<'py, PyAny>,
    manner: (bool, bool),
) -> PyResult<(Bound<'py, PyBytes>, Parts<'py>)> {
    let (is_extended, pickled) = manner;
    let dialect = if is_extended {
        Dialect::Extended
    } else {
        Dialect::Gunicorn
    };
    let mut encoder = Encoder::new(py, dialect, Limit::default());
    encoder.map(1);
    Manner { dialect, pickled }.put(&mut encoder, name, value)?;
    Ok((PyBytes::new(py, &encoder.payload), encoder.parts()))
}

fn parts_of(parts: Parts<'_>) -> PyResult<Vec<Part>> {
    let parts = parts.into_iter();
    let parts = parts.map(|(offset, object)| Part::of(offset, &object));
    let mut parts = parts.collect::<PyResult<Vec<_>>>()?;
    parts.sort_by_key(|part| part.offset);
    Ok(parts)
}

/// Payload and parts of a call.
pub(super) type SealedCall<'py> = (Bound<'py, PyBytes>, Parts<'py>);

/// Reads a call from its lane, and of its values only how long they are.
pub(super) fn read<'py>(
    py: Python<'py>,
    frame: &Arrived,
    known: &mut Known,
    limit: &Limit,
) -> PyResult<SealedCall<'py>> {
    let text = |value| {
        Decoder::new(py, value, Outside::Nothing, false, Limit::default())
            .value()?
            .extract()
    };
    let mut fields = Fields::new(&frame.payload).map_err(|fault| unreadable(py, fault))?;
    while let Some((name, value)) = fields.next_field().map_err(|fault| unreadable(py, fault))? {
        match name {
            "app_path" => known.app_path = text(value)?,
            "action" => known.action = text(value)?,
            "extended" => known.manner.dialect = Dialect::Extended,
            _ => {}
        }
    }
    let parts = parts_in_file(py, &frame.payload, frame.file.as_ref(), limit)?;
    Ok((PyBytes::new(py, &frame.payload), parts))
}

/// What of a payload lies in its file, each with its place.
fn parts_in_file<'py>(
    py: Python<'py>,
    payload: &[u8],
    file: Option<&OwnedFd>,
    limit: &Limit,
) -> PyResult<Parts<'py>> {
    let mut places = externals(payload).map_err(|fault| unreadable(py, fault))?;
    places.sort_unstable();
    places.dedup();
    let outside = Outside::from(file);
    let mut parts = Vec::with_capacity(places.len());
    let mut read = 0;
    for (offset, length) in places {
        read += length;
        if read > EXTERNAL_MAX || !outside.has(offset, length)? {
            return Err(unreadable(py, Fault::Truncated));
        }
        let bytes = outside.object(py, BYTES, limit, offset, length)?;
        parts.push((offset, bytes));
    }
    Ok(parts)
}

fn unreadable(py: Python<'_>, fault: Fault) -> PyErr {
    let text = match fault {
        Fault::Truncated => "it ends within a value",
        Fault::TooDeep => "containers lie in each other too deep",
        Fault::TooMany(_) => "a container has too many items",
        _ => "a value is of no known type",
    };
    protocol_error(py, &format!("A message of the pool cannot be read: {text}"))
}

/// An answer that was sealed elsewhere.
pub(super) struct SealedAnswer<'py> {
    pub(super) payload: Bound<'py, PyBytes>,
    parts: Vec<Part>,
}

impl<'py> SealedAnswer<'py> {
    /// Of what [`pool_seal`] gave. `DirtyProtocolError`: it is too long.
    pub(super) fn of(pair: &Bound<'py, PyAny>) -> PyResult<Self> {
        let (payload, parts): (Bound<'py, PyBytes>, Parts<'py>) = pair.extract()?;
        if payload.as_bytes().len() > PAYLOAD_MAX {
            return Err(unreadable(pair.py(), Fault::Truncated));
        }
        let parts = parts_of(parts)?;
        Ok(Self { payload, parts })
    }

    pub(super) fn has_external(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Writes what does not lie in the payload to its places in `file`. Others may run meanwhile.
    pub(super) fn write_external(
        &self,
        py: Python<'_>,
        file: &OwnedFd,
        limit: &Limit,
    ) -> PyResult<()> {
        for part in &self.parts {
            limit.write(py, file, part.content(), part.offset)?;
        }
        Ok(())
    }
}
