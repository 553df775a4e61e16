//! Which of the two text formats a scraper gets (RFC 9110 section 12.5.1, as far as it matters here).

/// A text format for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' text format 0.0.4.
    Prometheus,
    /// `OpenMetrics` 1.0.
    OpenMetrics,
}

impl Format {
    /// Value of `Content-Type`.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What follows the last line.
    pub(super) const fn end(self) -> &'static str {
        match self {
            Self::Prometheus => "",
            Self::OpenMetrics => "# EOF\n",
        }
    }

    /// `OpenMetrics` for whoever says that it understands version 1.0.0 and does not prefer the other.
    /// Prometheus' format is for everybody else, browsers above all.
    pub(super) fn accepted_by(accept: &[u8]) -> Self {
        let text = String::from_utf8_lossy(accept);
        let (mut open, mut plain) = (0, 0);
        for range in text.split(',').map(Range::of) {
            match range.kind {
                "application/openmetrics-text" if range.has_version(&["", "1.0.0"]) => {
                    open = open.max(range.quality);
                }
                "text/plain" if range.has_version(&["", "0.0.4"]) => {
                    plain = plain.max(range.quality);
                }
                _ => {}
            }
        }
        if open > 0 && open >= plain {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }
}

/// One element of `Accept`.
struct Range<'a> {
    kind: &'a str,
    version: &'a str,
    /// In thousandths.
    quality: u32,
}

impl<'a> Range<'a> {
    fn of(element: &'a str) -> Self {
        let mut parts = element.split(';').map(str::trim);
        let mut range = Self {
            kind: parts.next().unwrap_or_default(),
            version: "",
            quality: 1000,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "version" => range.version = value.trim().trim_matches('"'),
                "q" => range.quality = thousandths(value.trim()),
                _ => {}
            }
        }
        range
    }

    fn has_version(&self, known: &[&str]) -> bool {
        known.contains(&self.version)
    }
}

/// A quality value; what is none counts as 0.
fn thousandths(text: &str) -> u32 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = part.chars().chain("000".chars()).take(3).collect();
    match (whole.parse::<u32>(), digits.parse::<u32>()) {
        (Ok(whole @ 0..=1), Ok(part)) => (whole * 1000 + part).min(1000),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_get_what_they_understand_and_prefer() {
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            (prometheus_3, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=2.0.0",
                Format::Prometheus,
            ),
            (
                "application/openmetrics-text;q=0.2, text/plain;q=0.9",
                Format::Prometheus,
            ),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=0.000", Format::Prometheus),
            ("application/openmetrics-text;q=much", Format::Prometheus),
            ("text/html,*/*;q=0.8", Format::Prometheus),
            ("", Format::Prometheus),
            ("\u{fffd};;=,;q=;version", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted_by(accept.as_bytes()), expected, "{accept}");
        }
    }
}
