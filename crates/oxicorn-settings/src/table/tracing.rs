//! How requests are named and followed. Gunicorn leaves it to the application and to proxies; all of it is off by default.

use crate::definition::{
    Applies, Choice, Default, Definition, Flags, Kind, NoneMeans, Parity, Section, Since,
};

const TRACE_CONTEXT: Choice = Choice {
    words: &["off", "any", "trusted"],
    synonyms: &[],
    switches: Some(("any", "off")),
    none: NoneMeans::Word("off"),
    exact: false,
};

/// One setting; all of them are applied by a reload.
const fn own(
    name: &'static str,
    flags: Flags,
    kind: Kind,
    default: Default,
    doc: &'static str,
) -> Definition {
    Definition {
        name,
        section: Section::Tracing,
        flags,
        kind,
        default,
        doc,
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    }
}

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    own(
        "request_id",
        Flags::switch_on(&["--request-id"]),
        Kind::Bool,
        Default::Bool(false),
        "Give each request an id. That of a peer in `forwarded_allow_ips` is kept if it is short and plain; every other \
         request gets a UUID of its own. The application finds it as a header (`HTTP_X_REQUEST_ID`), and logs and \
         control socket show it.",
    ),
    own(
        "request_id_header",
        Flags::text(&["--request-id-header"], "NAME"),
        Kind::HeaderName,
        Default::Str("X-Request-ID"),
        "The header that has the id of a request, see `request_id`.",
    ),
    own(
        "request_id_response",
        Flags::switch_on(&["--request-id-response"]),
        Kind::Bool,
        Default::Bool(false),
        "Send the id of a request back with its response, also with those of the server itself. It is for `request_id`; a \
         header of that name which the application sends is left alone.",
    ),
    own(
        "request_start",
        Flags::switch_on(&["--request-start"]),
        Kind::Bool,
        Default::Bool(false),
        "Count the time that requests spent in proxies. A peer in `forwarded_allow_ips` says when it got a request, by \
         `X-Request-Start` or `X-Queue-Start` (`t=1700000000.123`, or milliseconds, or microseconds). Metrics, the JSON \
         access log and `server_timing` tell how long that was.",
    ),
    own(
        "server_timing",
        Flags::switch_on(&["--server-timing"]),
        Kind::Bool,
        Default::Bool(false),
        "Send a `Server-Timing` header with each response of the application. Browsers show it: the time in proxies (with \
         `request_start`), in the queue, and in the application until its response began. Every client sees it.",
    ),
    own(
        "trace_context",
        Flags::text(&["--trace-context"], "STRING"),
        Kind::Choice(&TRACE_CONTEXT),
        Default::Str("off"),
        "Whose W3C trace context (`traceparent`, `tracestate`) is believed: `any`, `trusted` or `off`. Where it is not \
         `off`, what breaks the rules is left out and a request without one begins a trace. `trusted` means peers in \
         `forwarded_allow_ips`. With `off` the headers reach the application as they came, unless there is `tracing`, \
         which makes it `any`.",
    ),
    own(
        "tracing",
        Flags::switch_on(&["--tracing"]),
        Kind::Bool,
        Default::Bool(false),
        "Export a span for each sampled request to an OpenTelemetry collector (OTLP over HTTP, protobuf). It is the parent \
         of the spans that the application makes. The environment variables of OpenTelemetry (`OTEL_EXPORTER_OTLP_*`, \
         `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`) hold where no setting says \
         something else.",
    ),
    own(
        "tracing_endpoint",
        Flags::text(&["--tracing-endpoint"], "URL"),
        Kind::HttpUrl,
        Default::None,
        "The collector, `http://HOST:PORT` or `https://HOST:PORT`. Without a path it is `/v1/traces`. Where it is not set: \
         `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT`, `http://localhost:4318`.",
    ),
    own(
        "tracing_ca_certs",
        Flags::text(&["--tracing-ca-certs"], "FILE"),
        Kind::Text,
        Default::None,
        "The authorities that the certificate of an `https` collector is checked against, a PEM file. Where it is not set: \
         `OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE`, `OTEL_EXPORTER_OTLP_CERTIFICATE`, those of the system (`SSL_CERT_FILE`, \
         `SSL_CERT_DIR`, the distribution's).",
    ),
    own(
        "tracing_headers",
        Flags::text(&["--tracing-headers"], "STRING"),
        Kind::Pairs,
        Default::None,
        "Headers for the collector, `name=value` separated by commas and percent-encoded. The environment \
         (`OTEL_EXPORTER_OTLP_HEADERS`) is the place for secrets: settings can be printed.",
    ),
    own(
        "tracing_service_name",
        Flags::text(&["--tracing-service-name"], "NAME"),
        Kind::Text,
        Default::None,
        "What the spans call this service. Where it is not set: `OTEL_SERVICE_NAME`, `service.name` of \
         `OTEL_RESOURCE_ATTRIBUTES`, `unknown_service:oxicorn`.",
    ),
    own(
        "tracing_resource",
        Flags::text(&["--tracing-resource"], "STRING"),
        Kind::Pairs,
        Default::None,
        "What else the spans say of this service, `name=value` separated by commas and percent-encoded. It is added to \
         `OTEL_RESOURCE_ATTRIBUTES`, of which it replaces what has the same name.",
    ),
    own(
        "tracing_sample_ratio",
        Flags::text(&["--tracing-sample-ratio"], "RATIO"),
        Kind::Ratio,
        Default::None,
        "The part of the traces beginning here that is sampled, from 0 to 1. A request whose trace began elsewhere is \
         sampled if its `traceparent` says so. Where it is not set `OTEL_TRACES_SAMPLER` decides, else all are.",
    ),
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, refused};
    use crate::value::{Raw, Value};

    fn text(text: &str) -> Raw {
        Raw::Str(text.into())
    }

    #[test]
    fn ratios_are_numbers_from_0_to_1() {
        for (raw, expected) in [
            (text("0.25"), "0.25"),
            (Raw::Float(0.001), "0.001"),
            (Raw::Int(1), "1"),
            (text(" 0 "), "0"),
            (text("1e-3"), "0.001"),
        ] {
            assert_eq!(
                accepted("tracing_sample_ratio", raw),
                Value::Str(expected.into())
            );
        }
        for raw in [
            text("1.1"),
            Raw::Float(-0.1),
            text("NaN"),
            text("10%"),
            text(""),
        ] {
            let refusal = refused("tracing_sample_ratio", raw);
            assert_eq!(refusal, "must be a number from 0 to 1");
        }
    }

    #[test]
    fn headers_have_names_that_are_tokens() {
        let named = accepted("request_id_header", text("X-Correlation-ID"));
        assert_eq!(named, Value::Str("X-Correlation-ID".into()));
        for name in ["", "x y", "x:", "x_y", "Host", "content-length"] {
            let refusal = refused("request_id_header", text(name));
            assert!(
                refusal.starts_with("must be the name of a header"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn endpoints_are_http_urls() {
        for url in [
            "http://localhost:4318",
            "http://[::1]:4318/v1/traces",
            "http://collector",
            "https://collector:4318",
        ] {
            assert_eq!(
                accepted("tracing_endpoint", text(url)),
                Value::Str(url.into())
            );
        }
        for (url, reason) in [
            ("grpc://collector:4317", "http://HOST:PORT"),
            ("localhost:4318", "http://HOST:PORT"),
            ("http://", "http://HOST:PORT"),
            ("http://a b", "http://HOST:PORT"),
            ("http://host:port", "http://HOST:PORT"),
            ("http://user@host", "http://HOST:PORT"),
        ] {
            let refusal = refused("tracing_endpoint", text(url));
            assert!(refusal.contains(reason), "{url}: {refusal}");
        }
    }

    #[test]
    fn trace_contexts_are_believed_by_word_or_switch() {
        let context = |raw| accepted("trace_context", raw);
        assert_eq!(context(Raw::Bool(true)), Value::Str("any".into()));
        assert_eq!(context(text("Trusted")), Value::Str("trusted".into()));
        assert_eq!(context(Raw::None), Value::Str("off".into()));
    }

    #[test]
    fn pairs_have_names_and_values() {
        let pairs = "api-key=a%20b, x=";
        assert_eq!(
            accepted("tracing_headers", text(pairs)),
            Value::Str(pairs.into())
        );
        assert_eq!(
            refused("tracing_headers", text("api-key")),
            "must be NAME=VALUE separated by commas: 'api-key' is not"
        );
        assert_eq!(
            refused("tracing_resource", text("a=%zz")),
            "must be NAME=VALUE separated by commas: 'a=%zz' is not"
        );
    }
}
