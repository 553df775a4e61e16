//! What a line of the JSON access log may have: the names of `json_accesslog_fields`.

use crate::misspelling::nearest_word;
use crate::value::Quoted;

/// Names that are not headers, in the order in which all of them are written. The gateway's list is the
/// same: a build with two different ones fails (`oxicorn-python/src/arbiter/gateway.rs`).
pub const NAMES: [&str; 24] = [
    "time",
    "client",
    "client_port",
    "user",
    "method",
    "target",
    "path",
    "query",
    "protocol",
    "scheme",
    "host",
    "referer",
    "user_agent",
    "status",
    "bytes",
    "duration",
    "pid",
    "reason",
    "forwarded_client",
    "forwarded_for",
    "request_id",
    "trace_id",
    "proxy_time",
    "queue_time",
];

/// What is wrong with `field`, if anything is.
pub(crate) fn fault(field: &str) -> Option<String> {
    if NAMES.contains(&field) || is_header(field) {
        return None;
    }
    let hint = nearest_word(field, NAMES.into_iter());
    let hint = hint.map_or_else(
        || "one of the fields of docs/logging.md, {NAME}i or {NAME}o for headers".to_owned(),
        |name| format!("did you mean '{name}'?"),
    );
    Some(format!("{} is no field: {hint}", Quoted(field)))
}

/// `{name}i` and `{name}o`, headers of the request and of the response, as in `access_log_format`.
fn is_header(field: &str) -> bool {
    let name = field
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix("}i").or_else(|| rest.strip_suffix("}o")));
    name.is_some_and(|name| {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !name.is_empty() && name.bytes().all(is_token)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_headers_are_fields() {
        for field in NAMES
            .into_iter()
            .chain(["{x-request-id}i", "{content-type}o"])
        {
            assert_eq!(fault(field), None);
        }
    }

    #[test]
    fn others_are_not_and_the_nearest_is_named() {
        assert_eq!(
            fault("statsu").as_deref(),
            Some("'statsu' is no field: did you mean 'status'?")
        );
        for field in ["{}i", "{x y}i", "{x}e", "x-request-id", "{x"] {
            assert!(
                fault(field).is_some_and(|text| text.contains("{NAME}i")),
                "{field}"
            );
        }
    }
}
