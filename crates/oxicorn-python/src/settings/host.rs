//! What validators ask of the machine, answered by Python's standard library.

use std::sync::Arc;

use oxicorn_settings::Host;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use super::convert::Objects;

/// What of the machine the validators may ask: answered by Python's standard library.
#[derive(Debug)]
pub(super) struct PythonHost {
    pub(super) objects: Arc<Objects>,
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

    fn longest_backlog(&self) -> Option<i64> {
        let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
        text.trim().parse().ok()
    }

    fn most_connections(&self) -> i64 {
        i64::try_from(oxicorn_gateway::most_connections()).unwrap_or(i64::MAX)
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

    fn is_class(&self, object: u32) -> bool {
        Self::ask(|py| {
            let object = self.objects.get(py, object);
            Ok(object.is_some_and(|object| object.is_instance_of::<PyType>()))
        })
        .unwrap_or(false)
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
