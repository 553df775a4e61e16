//! The page, and what a browser may do with it.
//!
//! Everything is in it: no file of others', no font, no library. A nonce, another one each time, lets its own style and
//! script in and nothing else (Content Security Policy 3); it may ask this listener alone, and stands in no frame.

use std::fs::File;
use std::io::{self, Read as _};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Bytes of a nonce; the policy asks for 16 at least.
const NONCE: usize = 16;

/// The page with a nonce, and its policy.
pub(super) fn page() -> io::Result<(String, String)> {
    let nonce = nonce()?;
    let page = PAGE
        .replace("{{style}}", STYLE)
        .replace("{{script}}", SCRIPT)
        .replace("{{nonce}}", &nonce);
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    Ok((page, policy))
}

fn nonce() -> io::Result<String> {
    let mut bytes = [0; NONCE];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_from_elsewhere() {
        let (page, policy) = page().expect("random bytes");
        let (other, _) = super::page().expect("random bytes");
        assert_ne!(page, other, "another nonce");
        assert!(!page.contains("{{"), "everything is filled in");
        for foreign in ["src=\"http", "href=\"http", "@import", "url(http", "//cdn"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        let nonce = &policy[policy.find("nonce-").expect("one") + 6..][..2 * NONCE];
        assert_eq!(page.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
        // What the policy would keep a browser from.
        for inline in [" style=\"", " onclick=", "javascript:", "innerHTML"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }
}
