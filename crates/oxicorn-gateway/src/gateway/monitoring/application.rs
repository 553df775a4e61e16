//! The applications' own metrics, written down behind the server's.
//!
//! How many there are is the application's affair, so they are read and written on another thread: no request waits
//! for a scrape. One scrape at a time; the bound is the size of the store.

use std::borrow::Cow;
use std::fmt::Write as _;

use oxicorn_link::metric_store::{FamilyKind, FamilyReading, MetricStore, Sample};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::answer::Answer;
use super::negotiation::Format;

/// What the server's own families begin with.
const RESERVED: &str = "oxicorn_";

/// Scrapes that are written at a time.
static SCRAPES: Semaphore = Semaphore::const_new(1);

/// Appends what is to follow.
pub(super) async fn complete(answer: &mut Answer) {
    let Some((store, format)) = answer.followed_by.take() else {
        return;
    };
    // The semaphore is never closed.
    let _permit = SCRAPES.acquire().await;
    let written = spawn_blocking(move || written(&store, format)).await;
    // Where the thread could not be made or panicked, the server's own figures are better than nothing.
    answer.body.push_str(&written.unwrap_or_default());
    answer.body.push_str(format.end());
}

/// Everything in `store`, in the text format of `OpenMetrics` 1.0 or Prometheus' 0.0.4.
pub fn application_metrics(store: &MetricStore, open_metrics: bool) -> String {
    let format = if open_metrics {
        Format::OpenMetrics
    } else {
        Format::Prometheus
    };
    written(store, format) + format.end()
}

fn written(store: &MetricStore, format: Format) -> String {
    let mut text = String::new();
    let families = store.read();
    for family in families
        .iter()
        .filter(|family| !family.name.starts_with(RESERVED))
    {
        write_family(&mut text, format, family);
    }
    text
}

fn write_family(text: &mut String, format: Format, family: &FamilyReading) {
    let name = legal_name(&family.name);
    let kind = family.kind.name();
    let suffix = match (family.kind, format) {
        (FamilyKind::Counter, Format::Prometheus) => "_total",
        _ => "",
    };
    let help = escaped(&family.help, format == Format::OpenMetrics);
    let _ = writeln!(text, "# HELP {name}{suffix} {help}");
    let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
    for sample in &family.samples {
        write_sample(text, &name, sample);
    }
}

fn write_sample(text: &mut String, name: &str, sample: &Sample) {
    let _ = write!(text, "{name}{}", sample.suffix);
    for (place, (label, value)) in sample.labels.iter().enumerate() {
        let before = if place == 0 { '{' } else { ',' };
        let (label, value) = (legal_name(label), escaped(value, true));
        let _ = write!(text, "{before}{label}=\"{value}\"");
    }
    if !sample.labels.is_empty() {
        text.push('}');
    }
    let _ = writeln!(text, " {}", Value(sample.value));
}

/// Both formats of this listener have names of ASCII letters, digits, underscores and (families only) colons.
fn legal_name(name: &str) -> Cow<'_, str> {
    let is_legal = |(place, letter): (usize, char)| {
        letter.is_ascii_alphabetic()
            || matches!(letter, '_' | ':')
            || (place > 0 && letter.is_ascii_digit())
    };
    if !name.is_empty() && name.chars().enumerate().all(is_legal) {
        return name.into();
    }
    let legal = (name.chars().enumerate()).map(|found| if is_legal(found) { found.1 } else { '_' });
    legal.collect::<String>().into()
}

pub(super) fn escaped(text: &str, quotes: bool) -> Cow<'_, str> {
    if !text.contains(['\\', '\n', '"']) {
        return text.into();
    }
    let text = text.replace('\\', r"\\").replace('\n', r"\n");
    if quotes {
        text.replace('"', "\\\"").into()
    } else {
        text.into()
    }
}

/// A number as both formats want it.
struct Value(f64);

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            number if number.is_nan() => f.write_str("NaN"),
            number => write!(f, "{number:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use oxicorn_link::metric_store::{Family, GaugeMode, LEAST_BYTES, Owner, Series};

    use super::*;

    fn series(name: &str, kind: FamilyKind, suffix: &str, labels: &[(&str, &str)]) -> Series {
        Series {
            family: Family {
                name: name.into(),
                kind,
                mode: (kind == FamilyKind::Gauge).then_some(GaugeMode::Sum),
                help: "With \"quotes\",\nlines and \\.".into(),
            },
            suffix: suffix.into(),
            labels: labels
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        }
    }

    #[test]
    fn both_formats_are_written_with_everything_escaped() {
        let (store, _file) = MetricStore::create(LEAST_BYTES).expect("memory");
        let sold = series(
            "shop.sold",
            FamilyKind::Counter,
            "_total",
            &[("kind", "a\"b\\c\nd")],
        );
        store.add(store.shared(&sold).expect("room"), 3.0);
        let level = series("shop_level", FamilyKind::Gauge, "", &[]);
        let level = store.gauge(&level, Owner::this()).expect("room");
        store.set_gauge(level, f64::NEG_INFINITY, 0.0);
        let ours = series("oxicorn_requests", FamilyKind::Counter, "_total", &[]);
        store.shared(&ours).expect("room");
        assert_eq!(
            application_metrics(&store, false),
            "# HELP shop_sold_total With \"quotes\",\\nlines and \\\\.\n\
             # TYPE shop_sold_total counter\n\
             shop_sold_total{kind=\"a\\\"b\\\\c\\nd\"} 3.0\n\
             # HELP shop_level With \"quotes\",\\nlines and \\\\.\n\
             # TYPE shop_level gauge\n\
             shop_level -Inf\n"
        );
        let open = application_metrics(&store, true);
        assert!(open.starts_with("# HELP shop_sold With \\\"quotes\\\","));
        assert!(open.contains("\n# TYPE shop_sold counter\n"));
        assert!(open.ends_with("shop_level -Inf\n# EOF\n"));
    }

    #[test]
    fn numbers_are_what_parsers_read() {
        for (number, expected) in [
            (0.0, "0.0"),
            (3.0, "3.0"),
            (0.1, "0.1"),
            (1e21, "1e21"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(Value(number).to_string(), expected);
        }
    }
}
