//! The settings table on Python's side: what sources say goes in as Python objects, what is in force
//! comes out as such.
//!
//! * `convert`: between Python's objects and the table's values
//! * `host`: what validators ask of the machine
//! * `rows`: the table itself, for programs that look at it

pub(crate) mod convert;
mod host;
pub(crate) mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use oxicorn_settings::{
    CommandLine, Environment, SettingError, Source, Stop, WorkerClass, command_line, did_you_mean,
};
use pyo3::create_exception;
use pyo3::exceptions::{PyAttributeError, PyException, PyKeyError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};

use convert::{Objects, address_to_python, describe, raw_to_python, to_python, to_raw};
use host::PythonHost;

create_exception!(
    oxicorn._native,
    CommandLineStop,
    PyException,
    "The command line asks for a text and the end: `(text, exit code)`."
);

/// Collects what the sources say (see `oxicorn_settings::Resolver`).
#[pyclass(module = "oxicorn._native")]
pub(crate) struct Resolver {
    inner: oxicorn_settings::Resolver,
    environment: Environment,
    objects: Arc<Objects>,
    command_line: CommandLine,
}

#[pymethods]
impl Resolver {
    /// Nothing said yet; defaults are computed from `variables`.
    #[new]
    fn new(py: Python<'_>, variables: BTreeMap<String, String>) -> PyResult<Self> {
        let environment = snapshot(py, variables)?;
        let objects = Arc::new(Objects::default());
        let host = Arc::new(PythonHost {
            objects: Arc::clone(&objects),
        });
        Ok(Self {
            inner: oxicorn_settings::Resolver::new(environment.clone(), host),
            environment,
            objects,
            command_line: CommandLine::default(),
        })
    }

    /// Reads the command line and the variables that hold more of it; raises `CommandLineStop` for `--help`, `--version`
    /// and bad flags. Nothing of it is in force before `apply_arguments`.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a new list is what Python's is turned into"
    )]
    fn read_arguments(&mut self, args: Vec<String>) -> PyResult<()> {
        self.command_line = command_line::parse(&args, &self.environment).map_err(stopped)?;
        Ok(())
    }

    /// What is no flag's on the command line: the application, and what nobody reads.
    fn positionals(&self) -> Vec<String> {
        let line = &self.command_line;
        line.application
            .iter()
            .chain(&line.ignored)
            .cloned()
            .collect()
    }

    /// What the flags of the command line itself say, by setting.
    fn given<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let given = PyDict::new(py);
        for (name, raw, source) in &self.command_line.settings {
            if matches!(source, Source::CommandLine { .. }) {
                given.set_item(name, raw_to_python(py, raw, &self.objects)?)?;
            }
        }
        Ok(given)
    }

    /// The config file named by the command line or the environment.
    fn config_location(&self) -> Option<&str> {
        self.command_line.config()
    }

    /// `chdir` of the command line: where a config file looks for modules.
    fn chdir_hint(&self) -> Option<&str> {
        self.command_line.last_text("chdir")
    }

    fn apply_framework(
        &mut self,
        py: Python<'_>,
        name: &str,
        value: &Bound<'_, PyAny>,
        arity: Option<usize>,
    ) -> PyResult<()> {
        let raw = to_raw(value, arity, &self.objects);
        let applied = self.inner.apply(name, raw, Source::Framework);
        applied.map_err(|error| refused(py, error))
    }

    fn apply_file(
        &mut self,
        py: Python<'_>,
        name: &str,
        value: &Bound<'_, PyAny>,
        arity: Option<usize>,
        path: String,
    ) -> PyResult<()> {
        let raw = to_raw(value, arity, &self.objects);
        let applied = self.inner.apply(name, raw, Source::File { path });
        applied.map_err(|error| refused(py, error))
    }

    /// Puts the environment's arguments and the command line on top.
    fn apply_arguments(&mut self, py: Python<'_>) -> PyResult<()> {
        for (name, raw, source) in std::mem::take(&mut self.command_line.settings) {
            let applied = self.inner.apply(name, raw, source);
            applied.map_err(|error| refused(py, error))?;
        }
        Ok(())
    }

    /// Sets one value whoever set it before.
    fn set(
        &mut self,
        py: Python<'_>,
        name: &str,
        value: &Bound<'_, PyAny>,
        arity: Option<usize>,
    ) -> PyResult<()> {
        let raw = to_raw(value, arity, &self.objects);
        let set = self.inner.set(name, raw, Source::Framework);
        set.map_err(|error| refused(py, error))
    }

    /// What a setting would be if nothing more was said.
    fn get<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let value = self.inner.value(name).map_err(|error| refused(py, error))?;
        to_python(py, name, &value, &self.objects)
    }

    /// Fills in the defaults and checks what only shows when everything is known. More can be said afterwards.
    fn finish(&self, py: Python<'_>) -> PyResult<Settings> {
        let resolved = self.inner.clone().finish();
        Ok(Settings {
            inner: resolved.map_err(|error| refused(py, error))?,
            objects: Arc::clone(&self.objects),
        })
    }

    #[staticmethod]
    fn did_you_mean(name: &str) -> Option<&'static str> {
        did_you_mean(name)
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
    fn get<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let value = self
            .inner
            .find(name)
            .ok_or_else(|| PyKeyError::new_err(name.to_owned()))?;
        to_python(py, name, value, &self.objects)
    }

    fn set(
        &mut self,
        py: Python<'_>,
        name: &str,
        value: &Bound<'_, PyAny>,
        arity: Option<usize>,
    ) -> PyResult<()> {
        let raw = to_raw(value, arity, &self.objects);
        let set = self.inner.set(name, raw, Source::Framework);
        set.map_err(|error| refused(py, error))
    }

    /// The config file that set it, if one did.
    fn file_of(&self, name: &str) -> Option<&str> {
        self.inner.source(name).and_then(Source::file)
    }

    fn effective_worker_class(&self) -> String {
        self.inner.asked_worker_class().to_string()
    }

    /// Whether anybody has set it.
    fn is_set(&self, name: &str) -> bool {
        let source = self.inner.source(name);
        source.is_some_and(|source| *source != Source::Default)
    }

    /// What the class that was asked for has turned out to be: the name of one of ours, or `direct`.
    fn serve_as(&mut self, name: &str) {
        self.inner.serve_as(match name {
            "direct" => WorkerClass::Direct,
            name => WorkerClass::named(name),
        });
    }

    /// Whether TLS is spoken at any address of `bind`.
    fn speaks_tls(&self) -> bool {
        self.inner.speaks_tls()
    }

    /// Bind addresses as Gunicorn gives them to Python.
    fn addresses<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let addresses = PyList::empty(py);
        for address in self.inner.bind() {
            addresses.append(address_to_python(py, address)?)?;
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

    /// The line for a worker class that nobody knows.
    fn unavailable_worker_class(&self) -> Option<String> {
        oxicorn_settings::unavailable_worker_class(&self.inner)
    }

    /// What is served by something else than its name says; a line each.
    fn replacements(&self) -> Vec<String> {
        oxicorn_settings::replacements(&self.inner)
    }

    /// Combinations that work but hardly as meant; a line each.
    fn warnings(&self) -> Vec<String> {
        oxicorn_settings::warnings(&self.inner)
    }
}

impl Settings {
    /// The worker class in force.
    pub(crate) fn effective_class(&self) -> WorkerClass {
        self.inner.worker_class()
    }
}

/// Looks into the native settings behind a `Config`.
pub(crate) fn with_settings<T>(
    cfg: &Bound<'_, PyAny>,
    look: impl FnOnce(&Settings) -> T,
) -> PyResult<T> {
    let native = cfg.getattr("native")?;
    let settings = native.cast::<Settings>()?.try_borrow()?;
    Ok(look(&settings))
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

fn stopped(stop: Stop) -> PyErr {
    let code = stop.exit_code();
    let (Stop::Help(text) | Stop::Version(text) | Stop::Usage(text)) = stop;
    CommandLineStop::new_err((text, code))
}

/// A refusal as Python's `oxicorn.errors.SettingRefused`, which can still be told the line of the config file.
fn refused(py: Python<'_>, error: SettingError) -> PyErr {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let SettingError::NotAllowed {
        setting,
        value,
        allowed,
        source,
    } = error
    else {
        return PyAttributeError::new_err(error.to_string());
    };
    let arguments = (setting, value, allowed, source.to_string(), source.file());
    let made = CLASS
        .import(py, "oxicorn.errors", "SettingRefused")
        .and_then(|class| class.call1(arguments));
    made.map_or_else(|error| error, PyErr::from_value)
}
