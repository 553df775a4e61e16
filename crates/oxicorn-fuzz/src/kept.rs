//! The inputs that are kept: one file a target, one line an input, escaped so that it can be read.
//!
//! What a long run found worth keeping (each reaches code that the others do not) and whatever ever
//! broke an invariant.

use std::path::PathBuf;

/// Where the inputs of `target` lie.
pub fn path(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("kept")
        .join(target)
        .with_extension("txt")
}

/// The inputs of `target`; none where there is no file.
///
/// # Panics
/// On a line that [`line`] did not write.
pub fn read(target: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(path(target)).unwrap_or_default();
    text.lines()
        .map(|line| unescape(line).unwrap_or_else(|| panic!("{target}: not an input: {line}")))
        .collect()
}

/// One input as a line.
pub fn line(input: &[u8]) -> String {
    format!("{}\n", input.escape_ascii())
}

/// The inverse of `escape_ascii`.
fn unescape(line: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'\\' {
            match rest.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
                plain @ (b'\\' | b'\'' | b'"') => plain,
                _ => return None,
            }
        } else {
            byte
        });
    }
    Some(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_back_its_input() {
        let every: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(unescape(line(&every).trim_end()), Some(every));
        assert_eq!(unescape("\\q"), None);
        assert_eq!(unescape("\\x4"), None);
    }
}
