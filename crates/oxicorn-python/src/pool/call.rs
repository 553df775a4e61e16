//! What a call consists of, and how its answers are to be written.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::decode::Decoder;
use super::encode::{Dialect, Encoder};
use super::protocol_error;

/// How answers are written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) dialect: Dialect,
    pub(super) pickled: bool,
}

impl Default for Manner {
    /// As a caller understands that says nothing of itself.
    fn default() -> Self {
        Self {
            dialect: Dialect::Gunicorn,
            pickled: false,
        }
    }
}

impl Manner {
    /// Writes a field: the result of a call, or a piece of a stream.
    pub(super) fn put<'py>(
        self,
        encoder: &mut Encoder<'py>,
        name: &str,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        if self.pickled {
            encoder.pickled(name, value)
        } else {
            encoder.field(name, value)
        }
    }
}

/// What is known of a call, also where it cannot be read any further: an error is told by that.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) app_path: String,
    pub(super) action: String,
    pub(super) manner: Manner,
}

/// A call as Python's values.
pub(super) struct Call<'py> {
    pub(super) args: Bound<'py, PyTuple>,
    pub(super) kwargs: Bound<'py, PyDict>,
}

impl<'py> Call<'py> {
    /// Reads a payload.
    pub(super) fn read(
        py: Python<'py>,
        decoder: &mut Decoder<'_, 'py>,
        known: &mut Known,
    ) -> PyResult<Self> {
        let (mut args, mut kwargs) = (None, None);
        for _ in 0..decoder.fields()? {
            match decoder.name()? {
                "app_path" => known.app_path = decoder.value()?.extract()?,
                "action" => known.action = decoder.value()?.extract()?,
                "args" => args = Some(decoder.value()?),
                "kwargs" => kwargs = Some(decoder.value()?),
                "extended" => {
                    decoder.value()?;
                    known.manner.dialect = Dialect::Extended;
                }
                _ => {
                    decoder.value()?;
                }
            }
        }
        known.manner.pickled = decoder.saw_pickle;
        let args = tuple_of(py, args)?;
        let kwargs = kwargs.unwrap_or_else(|| PyDict::new(py).into_any());
        let kwargs = kwargs
            .cast_into()
            .map_err(|_| protocol_error(py, "kwargs is no dictionary"))?;
        Ok(Self { args, kwargs })
    }
}

/// Gunicorn's client has lists.
fn tuple_of<'py>(
    py: Python<'py>,
    args: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let Some(args) = args else {
        return Ok(PyTuple::empty(py));
    };
    match args.cast_into::<PyTuple>() {
        Ok(args) => Ok(args),
        Err(error) => {
            let args = error.into_inner();
            PyTuple::new(py, args.try_iter()?.collect::<PyResult<Vec<_>>>()?)
        }
    }
}
