//! Names, versions, and what was probably meant.

use super::expressions::RESERVED;

/// The nearest of some words, where it is near enough to be a slip.
pub(super) fn nearest<'w>(given: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if given.len() > 40 {
        return None;
    }
    let given = given.to_lowercase();
    let distances = words.map(|word| (distance(&given, &word.to_lowercase()), word));
    let (distance, word) = distances.min_by_key(|(distance, _)| *distance)?;
    let allowed = if given.chars().count() <= 4 { 1 } else { 2 };
    (distance <= allowed).then_some(word)
}

/// Insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// The DSL's rule for a workflow's name and namespace.
pub(super) fn check_label(name: &str) -> Result<(), String> {
    let bytes = name.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let fits = bytes.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    if fits {
        return Ok(());
    }
    let shown = crate::workflow::read::cut(name);
    Err(format!("`{shown}`: 1 to 63 letters, digits or `-`, with a letter or digit at both ends"))
}

/// A variable of an expression, without `$`.
pub(super) fn check_variable(name: &str) -> Result<(), String> {
    let shown = crate::workflow::read::cut(name);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty()
        || name.len() > 64
        || !name.chars().all(plain)
        || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(format!("`{shown}`: a variable's name is letters, digits and `_`, without `$`"));
    }
    if RESERVED.contains(&name) {
        return Err(format!("`{shown}`: ${shown} has a meaning of its own; choose another name"));
    }
    Ok(())
}

/// Semantic versioning 2.0.0.
pub(super) fn is_semver(text: &str) -> bool {
    if text.len() > 128 {
        return false;
    }
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, before) = rest.split_once('-').map_or((rest, None), |(core, before)| (core, Some(before)));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let numeric_is_whole = |part: &str| !part.bytes().all(|b| b.is_ascii_digit()) || number(part);
    core.split('.').count() == 3
        && core.split('.').all(number)
        && before.is_none_or(|before| before.split('.').all(|part| plain(part) && numeric_is_whole(part)))
        && build.is_none_or(|build| build.split('.').all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_near() {
        let words = || ["method", "endpoint", "headers", "body", "do"].into_iter();
        for (given, near) in [
            ("metod", Some("method")),
            ("Method", Some("method")),
            ("ednpoint", Some("endpoint")),
            ("dp", Some("do")),
            ("boddy", Some("body")),
            ("query", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, words()), near, "{given}");
        }
    }

    #[test]
    fn versions_are_semantic() {
        for good in ["0.1.0", "1.0.0-alpha.1", "1.2.3+build.5", "1.0.0-0.3.7", "10.20.30-x-y.z+001"] {
            assert!(is_semver(good), "{good}");
        }
        for bad in ["1", "1.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "v1.0.0", "1.0.0.0", "1.0.x", ""] {
            assert!(!is_semver(bad), "{bad}");
        }
    }

    #[test]
    fn variables_are_plain_and_their_own() {
        for good in ["item", "_x", "pet2"] {
            assert!(check_variable(good).is_ok(), "{good}");
        }
        for bad in ["", "$pet", "2x", "a-b", "input", "context", "ENV"] {
            assert!(check_variable(bad).is_err(), "{bad}");
        }
    }
}
