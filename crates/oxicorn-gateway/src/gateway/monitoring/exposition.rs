//! How figures are written down: Prometheus' text format 0.0.4 and `OpenMetrics` 1.0.
//!
//! They differ in three things: in `OpenMetrics` a counter's family has a name without `_total`, a unit has a
//! line of its own, and the text ends with `# EOF`.

use std::fmt::Write as _;

use super::negotiation::Format;

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A family: everything its lines begin with. A unit is the last part of its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Option<&'static str>,
    pub(super) help: &'static str,
}

/// Writes families one after the other.
#[derive(Debug)]
pub(super) struct Exposition {
    format: Format,
    text: String,
}

/// Names and values as they are to be written: whoever takes a value from elsewhere has escaped it.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            text: String::with_capacity(16 * 1024),
        }
    }

    pub(super) fn begin(&mut self, family: Family) {
        let Family {
            name,
            kind,
            unit,
            help,
        } = family;
        let (kind, suffix) = match (kind, self.format) {
            (Kind::Counter, Format::Prometheus) => ("counter", "_total"),
            (Kind::Counter, Format::OpenMetrics) => ("counter", ""),
            (Kind::Gauge, _) => ("gauge", ""),
            (Kind::Histogram, _) => ("histogram", ""),
        };
        let _ = writeln!(self.text, "# HELP {name}{suffix} {help}");
        let _ = writeln!(self.text, "# TYPE {name}{suffix} {kind}");
        if let (Some(unit), Format::OpenMetrics) = (unit, self.format) {
            let _ = writeln!(self.text, "# UNIT {name} {unit}");
        }
    }

    /// A family with one number.
    pub(super) fn single(&mut self, family: Family, value: impl std::fmt::Display) {
        self.begin(family);
        self.sample(family, &[], value);
    }

    pub(super) fn sample(
        &mut self,
        family: Family,
        labels: Labels<'_>,
        value: impl std::fmt::Display,
    ) {
        let suffix = match family.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.line(family.name, suffix, labels, value);
    }

    /// A family with one histogram. `buckets`: upper bounds in microseconds and how many values each has by itself; the one
    /// without a bound last.
    pub(super) fn histogram(
        &mut self,
        family: Family,
        buckets: impl Iterator<Item = (Option<u64>, u64)>,
        sum_micros: u64,
    ) {
        self.begin(family);
        self.histogram_of(family, None, buckets, sum_micros);
    }

    /// One of a family's histograms, the one with this label.
    pub(super) fn histogram_of(
        &mut self,
        family: Family,
        label: Option<(&str, &str)>,
        buckets: impl Iterator<Item = (Option<u64>, u64)>,
        sum_micros: u64,
    ) {
        let labels: Vec<_> = label.into_iter().collect();
        let mut count = 0_u64;
        for (bound, values) in buckets {
            count = count.saturating_add(values);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), seconds);
            let labels = [&labels[..], &[("le", &bound)]].concat();
            self.line(family.name, "_bucket", &labels, count);
        }
        self.line(family.name, "_sum", &labels, seconds(sum_micros));
        self.line(family.name, "_count", &labels, count);
    }

    fn line(
        &mut self,
        name: &str,
        suffix: &str,
        labels: Labels<'_>,
        value: impl std::fmt::Display,
    ) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        for (place, (label, content)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{content}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// Microseconds as exact seconds.
pub(super) fn seconds(micros: u64) -> String {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Family = Family {
        name: "wait_seconds",
        kind: Kind::Histogram,
        unit: Some("seconds"),
        help: "How long.",
    };
    const DONE: Family = Family {
        name: "done",
        kind: Kind::Counter,
        unit: None,
        help: "How many.",
    };

    fn written(format: Format) -> String {
        let mut exposition = Exposition::new(format);
        exposition.begin(DONE);
        exposition.sample(DONE, &[("method", "GET"), ("class", "2xx")], 3);
        let buckets = [(Some(128), 1), (Some(256), 0), (None, 2)];
        exposition.histogram(WAIT, buckets.into_iter(), 1_000_450);
        exposition.histogram_of(WAIT, Some(("app", "a")), [(None, 2)].into_iter(), 5);
        let mut text = exposition.into_text();
        text.push_str(format.end());
        text
    }

    #[test]
    fn prometheus_has_the_suffix_in_the_family() {
        assert_eq!(
            written(Format::Prometheus),
            "# HELP done_total How many.\n\
             # TYPE done_total counter\n\
             done_total{method=\"GET\",class=\"2xx\"} 3\n\
             # HELP wait_seconds How long.\n\
             # TYPE wait_seconds histogram\n\
             wait_seconds_bucket{le=\"0.000128\"} 1\n\
             wait_seconds_bucket{le=\"0.000256\"} 1\n\
             wait_seconds_bucket{le=\"+Inf\"} 3\n\
             wait_seconds_sum 1.000450\n\
             wait_seconds_count 3\n\
             wait_seconds_bucket{app=\"a\",le=\"+Inf\"} 2\n\
             wait_seconds_sum{app=\"a\"} 0.000005\n\
             wait_seconds_count{app=\"a\"} 2\n"
        );
    }

    #[test]
    fn open_metrics_has_units_and_an_end() {
        let text = written(Format::OpenMetrics);
        assert!(text.starts_with("# HELP done How many.\n# TYPE done counter\ndone_total{"));
        assert!(text.contains("# UNIT wait_seconds seconds\n"));
        assert!(text.ends_with("wait_seconds_count{app=\"a\"} 2\n# EOF\n"));
    }
}
