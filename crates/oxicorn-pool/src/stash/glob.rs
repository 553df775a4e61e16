//! Patterns of names, as Python's `fnmatch`: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`.

/// Whether the whole text matches. Takes time in proportion to the product of both lengths at most.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and how far it reaches for now.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if let Some(next) = one(&pattern, p, text[t]) {
            p = next;
            t += 1;
        } else if let Some((after, reached)) = star {
            star = Some((after, reached + 1));
            p = after;
            t = reached + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&rest| rest == '*')
}

/// The place behind the element at `p`, if that matches the letter.
fn one(pattern: &[char], p: usize, letter: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => set(pattern, p + 1, letter),
        plain => (plain == letter).then_some(p + 1),
    }
}

fn set(pattern: &[char], begin: usize, letter: char) -> Option<usize> {
    let negated = pattern.get(begin) == Some(&'!');
    let first = begin + usize::from(negated);
    // A bracket that comes first is a letter of the set.
    let end = (first + 1..pattern.len()).find(|&at| pattern[at] == ']');
    let Some(end) = end.filter(|_| first < pattern.len()) else {
        return (letter == '[').then_some(begin);
    };
    let mut found = false;
    let mut at = first;
    while at < end {
        if at + 2 < end && pattern[at + 1] == '-' {
            found |= (pattern[at]..=pattern[at + 2]).contains(&letter);
            at += 3;
        } else {
            found |= pattern[at] == letter;
            at += 1;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn as_fnmatch() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("user:*", "user:1", true),
            ("user:*", "users:1", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxx", false),
            ("?", "ü", true),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[!a-c]x", "dx", true),
            ("[]]", "]", true),
            ("[", "[", true),
            ("[a", "[a", true),
            ("a[0-9]*z", "a7--z", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern:?} {text:?}");
        }
    }
}
