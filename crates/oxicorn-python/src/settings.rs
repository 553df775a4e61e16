//! The settings table on Python's side: what sources say goes in as Python objects, what is in force
//! comes out as such.
//!
//! The table itself knows no Python. Objects that are not plain values (hooks, classes, logging
//! dictionaries) pass through it as handles into [`Objects`], kept here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use oxicorn_settings::{
    BindAddress, CommandLine, Environment, Host, Raw, Source, Stop, TABLE, Value, command_line,
    did_you_mean, find,
};
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

create_exception!(
    oxicorn._native,
    CommandLineStop,
    PyException,
    "The command line asks for a text and the end: `(text, exit code)`."
);

/// Python objects that settings hold, by handle.
#[derive(Debug, Default)]
struct Objects(Mutex<Vec<Py<PyAny>>>);

impl Objects {
    fn keep(&self, object: &Bound<'_, PyAny>) -> u32 {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        objects.push(object.clone().unbind());
        u32::try_from(objects.len() - 1).expect("fewer objects than settings")
    }

    fn get<'py>(&self, py: Python<'py>, handle: u32) -> Option<Bound<'py, PyAny>> {
        let objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        objects
            .get(handle as usize)
            .map(|object| object.bind(py).clone())
    }
}

/// Collects what the sources say (see `oxicorn_settings::Resolver`).
#[pyclass(module = "oxicorn._native")]
pub(crate) struct Resolver {
    /// Gone once resolved.
    inner: Option<oxicorn_settings::Resolver>,
    objects: Arc<Objects>,
    command_line: CommandLine,
}

#[pymethods]
impl Resolver {
    /// Reads the command line; raises `CommandLineStop` for `--help`, `--version` and bad flags.
    #[new]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a new list is what Python's is turned into"
    )]
    fn new(
        py: Python<'_>,
        args: Vec<String>,
        variables: BTreeMap<String, String>,
    ) -> PyResult<Self> {
        let environment = snapshot(py, variables)?;
        let command_line = command_line::parse(&args, &environment).map_err(stopped)?;
        let objects = Arc::new(Objects::default());
        let host = Arc::new(PythonHost {
            objects: Arc::clone(&objects),
        });
        let inner = oxicorn_settings::Resolver::new(environment, host);
        Ok(Self {
            inner: Some(inner),
            objects,
            command_line,
        })
    }

    /// `MODULE:CALLABLE` of the command line.
    fn application(&self) -> Option<&str> {
        self.command_line.application.as_deref()
    }

    /// The config file named by the command line or the environment.
    fn config_location(&self) -> Option<&str> {
        self.command_line.config()
    }

    /// `chdir` of the command line: where a config file looks for modules.
    fn chdir_hint(&self) -> Option<&str> {
        self.command_line
            .settings
            .iter()
            .rev()
            .find_map(|(name, raw, _)| match raw {
                Raw::Str(path) if *name == "chdir" => Some(path.as_str()),
                _ => None,
            })
    }

    fn apply_framework(
        &mut self,
        name: &str,
        value: &Bound<'_, PyAny>,
        arity: Option<usize>,
    ) -> PyResult<()> {
        self.apply(name, value, arity, Source::Framework)
    }

    fn apply_file(
        &mut self,
        name: &str,
        value: &Bound<'_, PyAny>,
        arity: Option<usize>,
        path: String,
    ) -> PyResult<()> {
        self.apply(name, value, arity, Source::File { path })
    }

    /// Puts the command line on top and fills in the defaults; the last thing to be called.
    fn finish(&mut self) -> PyResult<Settings> {
        let mut inner = self
            .inner
            .take()
            .ok_or_else(|| PyValueError::new_err("the settings are already resolved"))?;
        for (name, raw, source) in self.command_line.settings.drain(..) {
            inner.apply(name, raw, source).map_err(refused)?;
        }
        let inner = inner.finish().map_err(refused)?;
        Ok(Settings {
            inner,
            objects: Arc::clone(&self.objects),
        })
    }

    #[staticmethod]
    fn names() -> Vec<&'static str> {
        setting_names()
    }

    #[staticmethod]
    fn is_hook(name: &str) -> bool {
        is_hook(name)
    }

    #[staticmethod]
    fn did_you_mean(name: &str) -> Option<&'static str> {
        did_you_mean(name)
    }
}

impl Resolver {
    fn apply(
        &mut self,
        name: &str,
        value: &Bound<'_, PyAny>,
        arity: Option<usize>,
        source: Source,
    ) -> PyResult<()> {
        let raw = to_raw(value, arity, &self.objects);
        match &mut self.inner {
            Some(inner) => inner.apply(name, raw, source).map_err(refused),
            None => Err(PyValueError::new_err("the settings are already resolved")),
        }
    }
}

/// The settings in force (see `oxicorn_settings::Settings`).
#[pyclass(module = "oxicorn._native")]
pub(crate) struct Settings {
    pub(crate) inner: oxicorn_settings::Settings,
    objects: Arc<Objects>,
}

#[pymethods]
impl Settings {
    #[staticmethod]
    fn names() -> Vec<&'static str> {
        setting_names()
    }

    #[staticmethod]
    fn is_hook(name: &str) -> bool {
        is_hook(name)
    }

    fn get<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let value = self
            .inner
            .find(name)
            .ok_or_else(|| PyKeyError::new_err(name.to_owned()))?;
        self.to_python(py, value)
    }

    fn set(&mut self, name: &str, value: &Bound<'_, PyAny>, arity: Option<usize>) -> PyResult<()> {
        let raw = to_raw(value, arity, &self.objects);
        self.inner
            .set(name, raw, Source::Framework)
            .map_err(refused)
    }

    fn effective_worker_class(&self) -> String {
        self.inner.worker_class().to_string()
    }

    /// Bind addresses as Gunicorn gives them to Python.
    fn addresses<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let addresses = PyList::empty(py);
        for address in self.inner.bind() {
            match address {
                BindAddress::Tcp { host, port } => addresses.append((host, port))?,
                BindAddress::Unix { path } => addresses.append(path)?,
                BindAddress::Abstract { name } => addresses.append(format!("\0{name}"))?,
                BindAddress::Descriptor(number) => addresses.append(number)?,
            }
        }
        Ok(addresses)
    }

    /// `--print-config`.
    fn print_config(&self, py: Python<'_>) -> String {
        self.inner
            .print_config(|handle| match self.objects.get(py, handle) {
                Some(object) => describe(&object),
                None => "<object>".into(),
            })
    }

    /// Whether files may be sent from their descriptor (setting `sendfile`, variable SENDFILE).
    fn sendfile(&self) -> bool {
        self.inner.sendfile()
    }

    /// What was set and is not available in this version; a line each.
    fn not_available_yet(&self) -> Vec<String> {
        oxicorn_settings::not_available_yet(&self.inner)
    }

    /// Combinations that work but hardly as meant; a line each.
    fn warnings(&self) -> Vec<String> {
        oxicorn_settings::warnings(&self.inner)
    }
}

impl Settings {
    /// The worker class in force.
    pub(crate) fn effective_class(&self) -> oxicorn_settings::WorkerClass {
        self.inner.worker_class()
    }

    fn to_python<'py>(&self, py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
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
            Value::Object(handle) => self
                .objects
                .get(py, *handle)
                .ok_or_else(|| PyKeyError::new_err("object of a setting is gone"))?,
        })
    }
}

/// What of the machine the validators may ask: answered by Python's standard library.
#[derive(Debug)]
struct PythonHost {
    objects: Arc<Objects>,
}

impl PythonHost {
    fn ask<T>(ask: impl FnOnce(Python<'_>) -> PyResult<T>) -> Option<T> {
        Python::attach(|py| ask(py).ok())
    }
}

impl Host for PythonHost {
    fn path_exists(&self, path: &str) -> bool {
        std::path::Path::new(path).exists()
    }

    fn is_directory(&self, path: &str) -> bool {
        std::path::Path::new(path).is_dir()
    }

    fn is_same_file(&self, one: &str, other: &str) -> bool {
        use std::os::unix::fs::MetadataExt;
        match (std::fs::metadata(one), std::fs::metadata(other)) {
            (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
            _ => false,
        }
    }

    fn matches_any(&self, pattern: &str) -> bool {
        Self::ask(|py| {
            let kwargs = PyDict::new(py);
            kwargs.set_item("recursive", true)?;
            let found = py
                .import("glob")?
                .getattr("iglob")?
                .call((pattern,), Some(&kwargs))?;
            Ok(found.try_iter()?.next().is_some())
        })
        .unwrap_or(false)
    }

    fn user_id(&self, name: &str) -> Option<u32> {
        Self::ask(|py| {
            py.import("pwd")?
                .call_method1("getpwnam", (name,))?
                .getattr("pw_uid")?
                .extract()
        })
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        Self::ask(|py| {
            py.import("grp")?
                .call_method1("getgrnam", (name,))?
                .getattr("gr_gid")?
                .extract()
        })
    }

    fn home_directory(&self) -> Option<String> {
        Self::ask(|py| {
            let user = py.import("os")?.call_method0("geteuid")?;
            py.import("pwd")?
                .call_method1("getpwuid", (user,))?
                .getattr("pw_dir")?
                .extract()
        })
    }

    fn is_dictionary(&self, object: u32) -> bool {
        Self::ask(|py| {
            Ok(self
                .objects
                .get(py, object)
                .is_some_and(|object| object.is_instance_of::<PyDict>()))
        })
        .unwrap_or(false)
    }
}

fn snapshot(py: Python<'_>, variables: BTreeMap<String, String>) -> PyResult<Environment> {
    let os = py.import("os")?;
    Ok(Environment {
        variables,
        working_directory: os.call_method0("getcwd")?.extract()?,
        effective_user: os.call_method0("geteuid")?.extract()?,
        effective_group: os.call_method0("getegid")?.extract()?,
    })
}

/// Plain values by value, everything else by handle.
fn to_raw(value: &Bound<'_, PyAny>, arity: Option<usize>, objects: &Objects) -> Raw {
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
        let entry = |(name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
            Some((name.extract().ok()?, plain(&value)?))
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

fn setting_names() -> Vec<&'static str> {
    TABLE.iter().map(|definition| definition.name).collect()
}

fn is_hook(name: &str) -> bool {
    find(name).is_some_and(oxicorn_settings::Definition::is_hook)
}

fn describe(object: &Bound<'_, PyAny>) -> String {
    match object.getattr("__qualname__") {
        Ok(name) => format!("<{name}()>"),
        Err(_) => object
            .repr()
            .map_or_else(|_| "<object>".into(), |text| text.to_string()),
    }
}

fn stopped(stop: Stop) -> PyErr {
    let code = stop.exit_code();
    let (Stop::Help(text) | Stop::Version(text) | Stop::Usage(text)) = stop;
    CommandLineStop::new_err((text, code))
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
fn refused(error: oxicorn_settings::SettingError) -> PyErr {
    PyValueError::new_err(error.to_string())
}
