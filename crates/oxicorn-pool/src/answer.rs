//! What the broker itself answers: errors in Gunicorn's form, and small results.

use oxicorn_proto::pool::{Item, write};

/// A payload under construction. What is written here is short, so no bound of the format is ever met; should it be, the
/// payload is cut and the caller's decoder says so.
#[derive(Debug, Default)]
pub(crate) struct Payload(pub(crate) Vec<u8>);

impl Payload {
    pub(crate) fn item(&mut self, item: Item<'_>) -> &mut Self {
        let _ = write(item, &mut self.0);
        self
    }

    pub(crate) fn map(&mut self, pairs: usize) -> &mut Self {
        self.item(Item::Map(pairs))
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.item(Item::Text(key)).item(Item::Text(value))
    }

    pub(crate) fn number(&mut self, key: &str, value: i64) -> &mut Self {
        self.item(Item::Text(key)).item(Item::Int(value))
    }

    pub(crate) fn float(&mut self, key: &str, value: f64) -> &mut Self {
        self.item(Item::Text(key)).item(Item::Float(value))
    }

    /// A value that is encoded already.
    pub(crate) fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }
}

/// What goes wrong without a worker's doing; the names are those of `oxicorn.dirty.errors`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure<'a> {
    /// The call is over its time.
    Timeout {
        app: &'a str,
        action: &'a str,
        seconds: f64,
    },
    /// The worker ended in the middle of the call.
    WorkerDied { pid: i32, reason: &'a str },
    /// Nobody has the application, and nobody will.
    NoWorkers {
        app: &'a str,
        known: &'a [&'a str],
        failure: Option<&'a str>,
    },
    /// Too many wait.
    QueueFull { app: &'a str, limit: usize },
    /// Too many bytes wait.
    QueueBytes { app: &'a str },
    /// What was sent makes no sense.
    Protocol(&'a str),
    /// Something of the stash; the first is the class.
    Stash { class: &'a str, message: &'a str },
}

impl Failure<'_> {
    /// The payload of an error frame.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut payload = Payload::default();
        payload.map(1).item(Item::Text("error")).map(3);
        payload.text("error_type", self.class());
        payload.text("message", &self.message());
        payload.item(Item::Text("details"));
        match self {
            Self::Timeout {
                app,
                action,
                seconds,
            } => {
                payload.map(3).float("timeout", *seconds);
                payload.text("app_path", app).text("action", action);
            }
            Self::WorkerDied { pid, .. } => {
                payload.map(1).number("worker_id", i64::from(*pid));
            }
            Self::NoWorkers { app, .. }
            | Self::QueueFull { app, .. }
            | Self::QueueBytes { app } => {
                payload.map(1).text("app_path", app);
            }
            Self::Protocol(_) | Self::Stash { .. } => {
                payload.map(0);
            }
        }
        payload.0
    }

    fn class(&self) -> &str {
        match self {
            Self::Timeout { .. } => "DirtyTimeoutError",
            Self::WorkerDied { .. } => "DirtyWorkerError",
            Self::NoWorkers { .. } => "DirtyNoWorkersAvailableError",
            Self::QueueFull { .. } | Self::QueueBytes { .. } => "DirtyQueueFullError",
            Self::Protocol(_) => "DirtyProtocolError",
            Self::Stash { class, .. } => class,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Timeout {
                app,
                action,
                seconds,
            } => format!("Execution of {app}.{action} timed out after {seconds} s"),
            Self::WorkerDied { reason, .. } => (*reason).to_owned(),
            Self::NoWorkers {
                app,
                failure: Some(failure),
                ..
            } => format!("No workers available for app: {app} (it cannot be loaded: {failure})"),
            Self::NoWorkers { app, known, .. } if known.contains(app) => {
                format!("No workers available for app: {app}")
            }
            Self::NoWorkers { app, known: [], .. } => {
                format!("No workers available for app: {app} (the pool has no apps)")
            }
            Self::NoWorkers { app, known, .. } => format!(
                "No workers available for app: {app} (dirty_apps has {})",
                known.join(", ")
            ),
            Self::QueueFull { app, limit } => {
                format!("Too many calls wait for {app}: {limit}, which is dirty_queue_limit")
            }
            Self::QueueBytes { app } => {
                format!("The calls that wait for {app} and others take up too much memory")
            }
            Self::Protocol(text) => (*text).to_owned(),
            Self::Stash { message, .. } => (*message).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxicorn_proto::pool::{Fields, Item, Reader};

    #[test]
    fn errors_have_gunicorns_form() {
        let failure = Failure::NoWorkers {
            app: "x:Y",
            known: &["a:B", "c:D"],
            failure: None,
        };
        let payload = failure.payload();
        let mut fields = Fields::new(&payload).expect("a dictionary");
        let (name, error) = fields.next_field().expect("whole").expect("one");
        assert_eq!(name, "error");
        let mut fields = Fields::new(error).expect("a dictionary");
        let mut seen = Vec::new();
        while let Some((name, value)) = fields.next_field().expect("whole") {
            if let Some(Item::Text(text)) = Reader::new(value).next_item().expect("whole") {
                seen.push((name, text.to_owned()));
            }
        }
        assert_eq!(
            seen,
            [
                ("error_type", "DirtyNoWorkersAvailableError".to_owned()),
                (
                    "message",
                    "No workers available for app: x:Y (dirty_apps has a:B, c:D)".to_owned()
                ),
            ]
        );
    }
}
