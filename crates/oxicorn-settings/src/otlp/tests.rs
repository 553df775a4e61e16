//! Settings beside an environment.

use super::*;
use crate::testing::resolve;
use crate::value::{Raw, Source};

type Set<'a> = &'a [(&'a str, &'a str)];

fn settings(set: Set<'_>) -> Settings {
    let mut settings = resolve(&[]);
    let source = || Source::CommandLine { flag: "--x".into() };
    settings
        .set("tracing", Raw::Bool(true), source())
        .expect("a switch");
    for (name, value) in set {
        settings
            .set(name, Raw::Str((*value).into()), source())
            .expect("a good value");
    }
    settings
}

fn found(set: Set<'_>, variables: Set<'_>) -> (Option<Otlp>, Vec<String>) {
    let mut complaints = Vec::new();
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let otlp = otlp(&settings(set), &variable, &mut complaints);
    (otlp, complaints)
}

fn endpoint(set: Set<'_>, variables: Set<'_>) -> String {
    found(set, variables).0.expect("an endpoint").endpoint
}

fn pairs(pairs: Set<'_>) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn nothing_is_exported_unless_it_is_asked_for() {
    let variable = |_: &str| Some("http://collector:4318".to_owned());
    assert_eq!(otlp(&resolve(&[]), &variable, &mut Vec::new()), None);
}

#[test]
fn the_collector_is_named_by_settings_then_by_variables() {
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t/as/is");
    let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://g:1/base/");
    assert_eq!(endpoint(&[], &[]), "http://localhost:4318/v1/traces");
    assert_eq!(endpoint(&[], &[general]), "http://g:1/base/v1/traces");
    assert_eq!(endpoint(&[], &[general, traces]), "http://t/as/is");
    let set = |url| endpoint(&[("tracing_endpoint", url)], &[general, traces]);
    assert_eq!(set("http://s:2"), "http://s:2/v1/traces");
    assert_eq!(set("http://s:2/"), "http://s:2/v1/traces");
    assert_eq!(set("http://s:2/x"), "http://s:2/x");
    assert_eq!(
        endpoint(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]),
        endpoint(&[], &[])
    );
}

#[test]
fn a_collector_that_cannot_be_spoken_to_is_complained_of() {
    let (otlp, complaints) = found(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://c:4317")]);
    assert_eq!(otlp, None);
    assert_eq!(complaints.len(), 1);
    assert!(
        complaints[0]
            .starts_with("No spans are exported: OTEL_EXPORTER_OTLP_ENDPOINT must be http://")
    );
    let (otlp, complaints) = found(&[], &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
    assert!(otlp.is_some() && complaints[0].contains("'grpc'"));
    let (otlp, complaints) = found(&[], &[("OTEL_SDK_DISABLED", "True")]);
    assert_eq!((otlp, complaints.len()), (None, 1));
}

#[test]
fn whom_to_believe_is_said_by_the_setting_or_the_environment() {
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/traces.pem");
    let general = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/general.pem");
    let of = |url, set: Set<'_>, variables: Set<'_>| {
        let set = [&[("tracing_endpoint", url)], set].concat();
        let (otlp, complaints) = found(&set, variables);
        let authorities = otlp.expect("settings").authorities;
        (
            authorities.map(|file| format!("{} {}", file.name, file.path)),
            complaints.len(),
        )
    };
    let secure = "https://collector:4318";
    assert_eq!(of(secure, &[], &[]), (None, 0));
    assert_eq!(
        of(secure, &[], &[general, traces]),
        (Some(format!("{} {}", traces.0, traces.1)), 0)
    );
    let set = [("tracing_ca_certs", "/set.pem")];
    assert_eq!(
        of(secure, &set, &[general]),
        (Some("tracing_ca_certs /set.pem".into()), 0)
    );
    let own = [("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/own.pem")];
    assert_eq!(of(secure, &[], &own), (None, 1));
    // Without TLS there is nobody to believe.
    assert_eq!(of("http://collector", &set, &own), (None, 0));
}

#[test]
fn resource_and_headers_are_joined() {
    let variables = [
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=listed,env=prod,team=a%2Cb",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Basic%20abc,x=1",
        ),
    ];
    let (otlp, complaints) = found(
        &[
            ("tracing_resource", "env=test"),
            ("tracing_headers", "x=2,bad name=3"),
        ],
        &variables,
    );
    let otlp = otlp.expect("settings");
    assert_eq!(
        otlp.resource,
        pairs(&[("service.name", "listed"), ("team", "a,b"), ("env", "test")])
    );
    assert_eq!(
        otlp.headers,
        pairs(&[("authorization", "Basic abc"), ("x", "2")])
    );
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("'bad name'"));
    let name = |set: Set<'_>, variables: Set<'_>| {
        found(set, variables).0.expect("settings").resource[0]
            .1
            .clone()
    };
    assert_eq!(name(&[], &[]), "unknown_service:oxicorn");
    let both = [variables[0], ("OTEL_SERVICE_NAME", "shop")];
    assert_eq!(name(&[], &both), "shop");
    assert_eq!(name(&[("tracing_service_name", "cart")], &both), "cart");
}

#[test]
fn what_is_wrong_in_the_environment_is_left_out_and_told() {
    let (otlp, complaints) = found(
        &[],
        &[
            ("OTEL_RESOURCE_ATTRIBUTES", "nonsense"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ],
    );
    let otlp = otlp.expect("the defaults");
    assert_eq!((otlp.queue, otlp.batch), (2048, 512));
    assert_eq!(otlp.timeout, Duration::from_secs(10));
    assert_eq!(otlp.sampler, Sampler::default());
    assert_eq!(complaints.len(), 4, "{complaints:?}");
}

#[test]
fn numbers_are_the_variables() {
    let (otlp, complaints) = found(
        &[],
        &[
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "400"),
            ("OTEL_BSP_SCHEDULE_DELAY", "250"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2000"),
        ],
    );
    let otlp = otlp.expect("settings");
    assert_eq!(complaints, Vec::<String>::new());
    // No batch is larger than the queue.
    assert_eq!((otlp.queue, otlp.batch), (100, 100));
    assert_eq!(otlp.delay, Duration::from_millis(250));
    assert_eq!(otlp.timeout, Duration::from_secs(2));
}

#[test]
fn samplers_have_opentelemetrys_names() {
    let of = |set: Set<'_>, word, argument| {
        let variables = [
            ("OTEL_TRACES_SAMPLER", word),
            ("OTEL_TRACES_SAMPLER_ARG", argument),
        ];
        let sampler = found(set, &variables).0.expect("settings").sampler;
        (sampler.follows_parent, sampler.ratio)
    };
    assert_eq!(of(&[], "always_on", ""), (false, 1.0));
    assert_eq!(of(&[], "always_off", ""), (false, 0.0));
    assert_eq!(of(&[], "traceidratio", "0.25"), (false, 0.25));
    assert_eq!(of(&[], "parentbased_traceidratio", "0.25"), (true, 0.25));
    assert_eq!(of(&[], "parentbased_always_off", "0.25"), (true, 0.0));
    let set = [("tracing_sample_ratio", "0.5")];
    assert_eq!(of(&set, "always_off", ""), (true, 0.5));
}
