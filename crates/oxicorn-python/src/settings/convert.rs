//! Between Python's objects and the table's values.
//!
//! Plain values go by value. Everything else (hooks, classes, logging dictionaries) stays a Python object and passes
//! through the table as a handle into [`Objects`].

use std::sync::{Mutex, PoisonError};

use oxicorn_settings::{BindAddress, Raw, Value, parse_statsd_address};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// Python objects that settings hold, by handle.
#[derive(Debug, Default)]
pub(super) struct Objects(Mutex<Vec<Py<PyAny>>>);

impl Objects {
    pub(super) fn keep(&self, object: &Bound<'_, PyAny>) -> u32 {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        objects.push(object.clone().unbind());
        u32::try_from(objects.len() - 1).expect("fewer objects than settings")
    }

    pub(super) fn get<'py>(&self, py: Python<'py>, handle: u32) -> Option<Bound<'py, PyAny>> {
        let objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        objects
            .get(handle as usize)
            .map(|object| object.bind(py).clone())
    }
}

/// Plain values by value, everything else by handle.
pub(super) fn to_raw(value: &Bound<'_, PyAny>, arity: Option<usize>, objects: &Objects) -> Raw {
    plain(value).unwrap_or_else(|| {
        // A class is called to make an instance; its arity is of no interest, only that it can be.
        let arity = arity.or_else(|| value.is_callable().then_some(0));
        Raw::Object(objects.keep(value), arity)
    })
}

fn plain(value: &Bound<'_, PyAny>) -> Option<Raw> {
    if value.is_none() {
        return Some(Raw::None);
    }
    // Before the integers: Python's booleans are integers too.
    if let Ok(value) = value.cast::<PyBool>() {
        return Some(Raw::Bool(value.is_true()));
    }
    if value.is_instance_of::<PyInt>() {
        return value.extract().ok().map(Raw::Int);
    }
    if let Ok(value) = value.cast::<PyFloat>() {
        return Some(Raw::Float(value.value()));
    }
    if let Ok(value) = value.cast::<PyString>() {
        return value.to_str().ok().map(|text| Raw::Str(text.to_owned()));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        // Of texts only; whatever else is in a dictionary stays in Python (`logconfig_dict`).
        let entry = |(name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
            let value: String = value.cast::<PyString>().ok()?.extract().ok()?;
            Some((name.extract().ok()?, Raw::Str(value)))
        };
        return dict.iter().map(entry).collect::<Option<_>>().map(Raw::Dict);
    }
    let is_sequence = value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>();
    if is_sequence || (!value.is_callable() && value.hasattr("__iter__").unwrap_or(false)) {
        let items = value.try_iter().ok()?;
        return items
            .map(|item| plain(&item.ok()?))
            .collect::<Option<_>>()
            .map(Raw::List);
    }
    None
}

/// An address as Gunicorn gives it to Python: host and port, a path, or a descriptor.
pub(crate) fn address_to_python<'py>(
    py: Python<'py>,
    address: &BindAddress,
) -> PyResult<Bound<'py, PyAny>> {
    Ok(match address {
        BindAddress::Tcp { host, port } => (host, port).into_pyobject(py)?.into_any(),
        BindAddress::Unix { path } => PyString::new(py, path).into_any(),
        BindAddress::Abstract { name } => PyString::new(py, &format!("\0{name}")).into_any(),
        BindAddress::Descriptor(number) => PyInt::new(py, *number).into_any(),
    })
}

/// What a setting's value is to Python; an address of `StatsD` is read, as Gunicorn has it.
pub(super) fn to_python<'py>(
    py: Python<'py>,
    name: &str,
    value: &Value,
    objects: &Objects,
) -> PyResult<Bound<'py, PyAny>> {
    if let ("statsd_host", Value::Str(text)) = (name, value)
        && let Some(address) = parse_statsd_address(text)
    {
        return address_to_python(py, &address);
    }
    Ok(match value {
        Value::None => py.None().into_bound(py),
        Value::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Value::Int(value) => PyInt::new(py, *value).into_any(),
        Value::Str(value) => PyString::new(py, value).into_any(),
        Value::List(items) => PyList::new(py, items)?.into_any(),
        Value::Dict(entries) => {
            let dict = PyDict::new(py);
            for (name, value) in entries {
                dict.set_item(name, value)?;
            }
            dict.into_any()
        }
        Value::Object(handle) => objects
            .get(py, *handle)
            .ok_or_else(|| PyKeyError::new_err("object of a setting is gone"))?,
    })
}

pub(super) fn describe(object: &Bound<'_, PyAny>) -> String {
    match object.getattr("__qualname__") {
        Ok(name) => format!("<{name}()>"),
        Err(_) => object
            .repr()
            .map_or_else(|_| "<object>".into(), |text| text.to_string()),
    }
}

/// What a source said, as Python would have said it.
pub(super) fn raw_to_python<'py>(
    py: Python<'py>,
    raw: &Raw,
    objects: &Objects,
) -> PyResult<Bound<'py, PyAny>> {
    Ok(match raw {
        Raw::None => py.None().into_bound(py),
        Raw::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Raw::Int(value) => PyInt::new(py, *value).into_any(),
        Raw::Float(value) => PyFloat::new(py, *value).into_any(),
        Raw::Str(value) => PyString::new(py, value).into_any(),
        Raw::List(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(raw_to_python(py, item, objects)?)?;
            }
            list.into_any()
        }
        Raw::Dict(entries) => {
            let dict = PyDict::new(py);
            for (name, value) in entries {
                dict.set_item(name, raw_to_python(py, value, objects)?)?;
            }
            dict.into_any()
        }
        Raw::Object(handle, _) => objects
            .get(py, *handle)
            .ok_or_else(|| PyKeyError::new_err("object of a setting is gone"))?,
    })
}
