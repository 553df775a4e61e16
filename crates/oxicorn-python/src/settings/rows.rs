//! The table as data for Python: names, and one dictionary per setting.
//!
//! This is what `cfg.settings[...]`, `cfg.parser()` and the comparison with Gunicorn's own registry read.

use std::sync::Arc;

use oxicorn_settings::{
    Action, Applies, BindAddress, Definition, Kind, Parity, Since, TABLE, find,
};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::convert::{Objects, address_to_python, raw_to_python};
use super::host::PythonHost;
use super::snapshot;

/// Every setting's name, in the order of the table.
#[pyfunction]
pub(crate) fn setting_names() -> Vec<&'static str> {
    TABLE.iter().map(|definition| definition.name).collect()
}

/// The names of the settings that take a callable.
#[pyfunction]
pub(crate) fn hook_names() -> Vec<&'static str> {
    let hooks = TABLE.iter().filter(|definition| definition.is_hook());
    hooks.map(|definition| definition.name).collect()
}

/// The names of the settings that take a class.
#[pyfunction]
pub(crate) fn class_names() -> Vec<&'static str> {
    let classes = TABLE
        .iter()
        .filter(|definition| matches!(definition.kind, Kind::Class));
    classes.map(|definition| definition.name).collect()
}

/// An address of `bind` as Gunicorn gives it to Python; `ValueError` says what is wrong with it.
#[pyfunction]
pub(crate) fn parse_address<'py>(
    py: Python<'py>,
    text: &str,
    default_port: u16,
) -> PyResult<Bound<'py, PyAny>> {
    match BindAddress::parse_with_port(text, default_port) {
        Ok(address) => address_to_python(py, &address),
        Err(fault) => Err(PyValueError::new_err(fault.to_string())),
    }
}

/// All there is to know about a setting, under the names of the attributes of Gunicorn's `Setting`.
#[pyfunction]
pub(crate) fn setting_row<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
    let definition = find(name).ok_or_else(|| PyKeyError::new_err(name.to_owned()))?;
    let row = PyDict::new(py);
    row.set_item("section", definition.section.title())?;
    row.set_item("default", default_of(py, definition)?)?;
    row.set_item("desc", definition.doc)?;
    row.set_item("short", definition.summary())?;
    row.set_item("allowed", definition.kind.described())?;
    row.set_item("own", definition.is_own())?;
    row.set_item("since", since(definition.since))?;
    row.set_item("reloads", definition.applies == Applies::Reload)?;
    row.set_item("parity", parity(definition.parity))?;
    set_flags(&row, definition)?;
    Ok(row)
}

/// What argparse needs to know: flags, metavar, type, action, how many values, the value of a flag without one.
fn set_flags(row: &Bound<'_, PyDict>, definition: &Definition) -> PyResult<()> {
    let py = row.py();
    let flags = definition.flags;
    if flags.names.is_empty() {
        return Ok(());
    }
    row.set_item("cli", PyTuple::new(py, flags.names)?)?;
    if !flags.metavar.is_empty() {
        row.set_item("meta", flags.metavar)?;
    }
    match flags.action {
        Action::Text => {}
        Action::Integer => row.set_item("type", "int")?,
        Action::AnyBaseInteger => row.set_item("type", "auto_int")?,
        Action::Repeat => row.set_item("action", "append")?,
        Action::Switch(true) => row.set_item("action", "store_true")?,
        Action::Switch(false) => {
            row.set_item("action", "store_const")?;
            row.set_item("const", false)?;
        }
        Action::OptionalText(missing) => {
            row.set_item("nargs", "?")?;
            row.set_item("const", missing)?;
        }
    }
    Ok(())
}

fn default_of<'py>(py: Python<'py>, definition: &Definition) -> PyResult<Bound<'py, PyAny>> {
    let variables = py.import("builtins")?.getattr("dict")?;
    let variables = variables.call1((py.import("os")?.getattr("environ")?,))?;
    let objects = Arc::new(Objects::default());
    let host = PythonHost {
        objects: Arc::clone(&objects),
    };
    let environment = snapshot(py, variables.extract()?)?;
    let (raw, _) = definition.default.raw(&environment, &host);
    raw_to_python(py, &raw, &objects)
}

fn since(since: Since) -> Option<String> {
    match since {
        Since::Always => None,
        Since::Gunicorn(version) => Some(format!("Gunicorn {version}")),
        Since::Oxicorn(version) => Some(format!("oxicorn {version}")),
    }
}

/// How far Gunicorn's meaning is kept, and how or why not to the letter.
fn parity(parity: Parity) -> (&'static str, Option<&'static str>) {
    match parity {
        Parity::Same => ("same", None),
        Parity::Better(how) => ("better", Some(how)),
        Parity::NotApplicable(why) => ("not applicable", Some(why)),
        Parity::Own => ("own", None),
    }
}
