//! Patterns in which `*` stands for any text and `?` for one byte.

/// Whether the whole text matches.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    bytes_match(pattern.as_bytes(), text.as_bytes())
}

/// Whether a file's name matches: a star in front does not stand for a leading dot (`glob(7)`).
pub(crate) fn matches_name(pattern: &str, name: &str) -> bool {
    let hidden = name.starts_with('.') && pattern.starts_with(['*', '?']);
    !hidden && matches(pattern, name)
}

/// Goes back to the last star only, which is enough: an earlier one could only swallow what that one can.
fn bytes_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((after, from)) => {
                    (p, t) = (after, from + 1);
                    star = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match() {
        for (pattern, text, expected) in [
            ("*.conf", "libc.conf", true),
            ("*.conf", "libc.conf.dpkg-old", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxc", false),
            ("*ab", "aab", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "", true),
            ("*", "", true),
            ("**", "x", true),
            ("x", "x", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!matches_name("*.conf", ".conf") && matches_name(".*", ".conf"));
    }
}
