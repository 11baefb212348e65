//! How deep a program's brackets are nested, found without recursion.

use crate::{Problem, TEXT_NESTING};

/// What a closing sign ends.
#[derive(PartialEq)]
enum Open {
    Bracket,
    Text,
}

/// Refuses what is nested too deep. Brackets that do not fit together are the parser's to tell.
pub(crate) fn check(text: &str) -> Result<(), Problem> {
    let mut open: Vec<Open> = Vec::new();
    let mut signs = text.bytes();
    while let Some(sign) = signs.next() {
        let in_text = open.last() == Some(&Open::Text);
        match (in_text, sign) {
            // The sign after it counts for nothing else.
            (true, b'\\') if signs.next() == Some(b'(') => open.push(Open::Bracket),
            (true, b'"') => drop(open.pop()),
            (true, _) => {}
            (false, b'"') => open.push(Open::Text),
            (false, b'(' | b'[' | b'{') => open.push(Open::Bracket),
            (false, b')' | b']' | b'}') => drop(open.pop()),
            (false, b'#') => drop(signs.by_ref().find(|sign| *sign == b'\n')),
            _ => {}
        }
        if open.len() > TEXT_NESTING {
            return Err(Problem::Invalid(format!(
                "the expression is nested too deep: its brackets may be nested {TEXT_NESTING} deep"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deep(depth: usize) -> String {
        format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn brackets_count_and_texts_do_not() {
        assert_eq!(check(&deep(TEXT_NESTING)), Ok(()));
        assert!(check(&deep(TEXT_NESTING + 1)).is_err());
        assert_eq!(check(&format!("\"{}\"", "[".repeat(1_000))), Ok(()));
        assert_eq!(check(&"[1],".repeat(1_000)), Ok(()));
        assert_eq!(check(&format!("1 # {}", "(".repeat(1_000))), Ok(()));
        assert_eq!(check(r#""\"((\\" | ["#), Ok(()));
        assert!(check(&r#""\("#.repeat(200)).is_err(), "a text inside of a text");
        assert_eq!(check(")]}\"\\"), Ok(()));
    }
}
