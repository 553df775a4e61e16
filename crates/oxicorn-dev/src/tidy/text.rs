//! What may not stand in a source file, line by line.

use super::dependencies::PURE;
use crate::source::{SourceFile, code_and_comment, mentions};

/// The crates that may step around the compiler's checks.
const MAY_BE_UNSAFE: [&str; 3] = ["os", "link", "python"];

/// What a crate that decides and performs nothing does not need. Addresses of `std::net` are plain values and allowed.
const IMPURE: [&str; 12] = [
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "ToSocketAddrs",
    "UdpSocket",
    "std::env",
    "std::fs",
    "std::io::stdin",
    "std::os",
    "std::process",
    "std::thread",
];

/// Words that put something off, and are only good with an owner in parentheses behind them.
const PUT_OFF: [&str; 2] = ["TODO", "FIXME"];

pub(super) fn breaches(file: &SourceFile) -> Vec<String> {
    let mut breaches = Vec::new();
    if !file.text.starts_with("//!") {
        breaches.push(format!(
            "{}: does not begin with `//!`, saying what the module decides",
            file.path.display()
        ));
    }
    for (number, line) in file.text.lines().enumerate() {
        let place = format!("{}:{}", file.path.display(), number + 1);
        breaches.extend(breach_in(file, line).map(|breach| format!("{place}: {breach}")));
    }
    breaches
}

fn breach_in(file: &SourceFile, line: &str) -> Option<String> {
    let krate = file.krate.as_str();
    let (code, comment) = code_and_comment(line);
    if mentions(&code, "unsafe") && !MAY_BE_UNSAFE.contains(&krate) {
        return Some(format!(
            "unsafe belongs into oxicorn-{}",
            MAY_BE_UNSAFE.join(", oxicorn-")
        ));
    }
    if file.shipped
        && PURE.contains(&krate)
        && let Some(name) = IMPURE.iter().find(|name| mentions(&code, name))
    {
        return Some(format!(
            "{name} has no place in oxicorn-{krate}, which performs nothing"
        ));
    }
    let word = PUT_OFF
        .iter()
        .find(|word| mentions(comment, word) && !comment.contains(&format!("{word}(")))?;
    Some(format!("{word} without an owner, write {word}(name)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(krate: &str, shipped: bool, text: &str) -> Vec<String> {
        let (krate, path, text) = (krate.to_owned(), "a.rs".into(), text.to_owned());
        breaches(&SourceFile {
            krate,
            path,
            shipped,
            text,
        })
    }

    #[test]
    fn lets_tidy_files_pass() {
        let text = "//! Decides.\n// unsafe, Instant, TODO(ann)\nlet a = \"std::fs\";\nuse std::net::IpAddr;\n";
        assert_eq!(of("proto", true, text), Vec::<String>::new());
        assert_eq!(
            of(
                "os",
                true,
                "//! Acts.\nunsafe { read() }\nstd::fs::read();\n"
            ),
            Vec::<String>::new()
        );
        assert_eq!(
            of("proto", false, "//! Reads the corpus.\nuse std::fs;\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn names_the_line_and_what_would_be_right() {
        let cases = [
            (
                "use a;\n",
                "a.rs: does not begin with `//!`, saying what the module decides",
            ),
            (
                "//! A.\nunsafe { }\n",
                "a.rs:2: unsafe belongs into oxicorn-os, oxicorn-link, oxicorn-python",
            ),
            (
                "//! A.\n\nInstant::now()\n",
                "a.rs:3: Instant has no place in oxicorn-proto, which performs nothing",
            ),
            (
                "//! A.\n// TODO later\n",
                "a.rs:2: TODO without an owner, write TODO(name)",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(of("proto", true, text), [expected]);
        }
    }
}
