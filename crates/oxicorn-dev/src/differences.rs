//! The settings whose meaning is not Gunicorn's to the letter: a table inside the page on compatibility.
//!
//! The page is written by hand but for what stands between two comments.

use std::fmt::Write;

use oxicorn_settings::{Parity, TABLE};

const START: &str = "<!-- `cargo dev generate-all` writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// The page with its table brought up to date.
pub(crate) fn render(page: &str) -> String {
    let (before, rest) = page.split_once(START).unwrap_or((page, ""));
    let after = rest.split_once(END).map_or("", |(_, after)| after);
    format!("{before}{START}{}{END}{after}", table())
}

fn table() -> String {
    let mut table = "| setting | what differs |\n|---|---|\n".to_owned();
    for definition in &TABLE {
        let difference = match definition.parity {
            Parity::Same | Parity::Own => continue,
            Parity::Better(how) => how.to_owned(),
            Parity::NotApplicable(why) => format!("checked, without effect: {why}"),
        };
        let _ = writeln!(table, "| `{}` | {difference} |", definition.name);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_is_between_the_comments_and_nothing_else() {
        let page = render("one\n");
        assert!(page.starts_with("one\n") && page.ends_with(END), "{page}");
        let page = page.replace(&table(), "stale\n") + "two\n";
        let fresh = render(&page);
        assert!(fresh.starts_with("one\n") && fresh.ends_with("two\n"));
        assert!(fresh.contains(&table()) && !fresh.contains("stale"));
        assert_eq!(render(&fresh), fresh);
    }

    #[test]
    fn lists_what_differs_only() {
        let table = table();
        assert!(table.contains("| `http_parser` | checked, without effect: "));
        assert!(!table.contains("| `backlog` |"));
        assert!(!table.contains("| `queue_limit` |"));
    }
}
