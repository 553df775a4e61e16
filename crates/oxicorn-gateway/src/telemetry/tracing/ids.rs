//! What logs and lists call a request by, beside its line.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RequestTrace;

/// The id of a request and that of its trace, as far as it has any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestIds {
    /// See the setting `request_id`.
    pub request_id: Option<String>,
    /// See the setting `trace_context`.
    pub trace_id: Option<String>,
}

impl RequestIds {
    pub(crate) fn of(trace: Option<&RequestTrace>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            request_id: trace.and_then(RequestTrace::id).map(text),
            trace_id: trace.and_then(RequestTrace::trace_id).map(|id| text(&id)),
        }
    }
}

/// To be put behind a line about the request; nothing where it has no ids.
impl fmt::Display for RequestIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, id) in [
            ("request_id", &self.request_id),
            ("trace_id", &self.trace_id),
        ] {
            if let Some(id) = id {
                write!(f, " {name}={id}")?;
            }
        }
        Ok(())
    }
}
