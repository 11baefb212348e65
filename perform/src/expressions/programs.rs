//! Compiled programs that a child keeps: compiling takes a hundred times as long as running.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use holdpoint_expressions::{Problem, Program};

/// The most programs that are kept.
const KEPT: usize = 256;
/// The bytes of their texts, all together.
const KEPT_BYTES: usize = 256 * 1024;

/// Compiled programs; those whose last use is longest ago go first.
#[derive(Default)]
pub(super) struct Programs {
    kept: HashMap<String, Kept>,
    bytes: usize,
    uses: u64,
}

struct Kept {
    program: Rc<Program>,
    used: u64,
}

impl Programs {
    /// The program of this text with variables of these names.
    pub fn compiled(&mut self, text: &str, names: &[Cow<'_, str>]) -> Result<Rc<Program>, Problem> {
        self.uses += 1;
        // No name has a NUL or a comma: with one, nothing is compiled.
        let key = format!("{}\0{text}", names.join(","));
        if let Some(kept) = self.kept.get_mut(&key) {
            kept.used = self.uses;
            return Ok(Rc::clone(&kept.program));
        }
        let program = Rc::new(Program::compile(text, names)?);
        self.keep(key, Rc::clone(&program));
        Ok(program)
    }

    fn keep(&mut self, key: String, program: Rc<Program>) {
        self.bytes += key.len();
        while self.kept.len() >= KEPT || self.bytes > KEPT_BYTES {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.bytes -= oldest.len();
            self.kept.remove(&oldest);
        }
        self.kept.insert(key, Kept { program, used: self.uses });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(programs: &mut Programs, text: &str, names: &[&str]) -> Result<String, Problem> {
        let names: Vec<Cow<'_, str>> = names.iter().map(|name| Cow::Borrowed(*name)).collect();
        let values = vec!["7"; names.len()];
        programs.compiled(text, &names)?.run("1", &values, 1024)
    }

    #[test]
    fn a_kept_program_is_the_one_of_its_text_and_its_names() {
        let mut programs = Programs::default();
        assert_eq!(value(&mut programs, "$a", &["a"]), Ok("7".to_owned()));
        assert!(matches!(value(&mut programs, "$a", &["b"]), Err(Problem::Invalid(_))));
        assert_eq!(value(&mut programs, "$a", &["b", "a"]), Ok("7".to_owned()));
        assert_eq!(value(&mut programs, ". + 1", &[]), Ok("2".to_owned()));
        assert_eq!(value(&mut programs, ". + 1", &[]), Ok("2".to_owned()));
        assert_eq!(programs.kept.len(), 3, "what is wrong is not kept");
    }

    #[test]
    fn what_was_not_used_for_long_goes() {
        let mut programs = Programs::default();
        for number in 0..KEPT + 10 {
            value(&mut programs, "\"often\"", &[]).expect("a value");
            assert_eq!(value(&mut programs, &number.to_string(), &[]), Ok(number.to_string()));
        }
        assert_eq!(programs.kept.len(), KEPT);
        assert!(programs.kept.contains_key("\0\"often\""));
        assert!(!programs.kept.contains_key(&format!("\0{}", 0)));
        let large = format!("\"{}\"", "x".repeat(60_000));
        for number in 0..8 {
            let text = format!("{large} | {number}");
            assert_eq!(value(&mut programs, &text, &[]), Ok(number.to_string()));
        }
        assert!(programs.bytes <= KEPT_BYTES);
        assert_eq!(programs.bytes, programs.kept.keys().map(String::len).sum::<usize>());
    }
}
