//! What is wrong with a program, in words.

use jaq_core::compile::Undefined;
use jaq_core::load;
use jaq_json::Val;

use crate::Problem;

/// The longest text of an error, in characters.
const TOLD: usize = 500;

/// Why it is no program.
pub(crate) fn loading(text: &str, errors: &load::Errors<&str, ()>) -> String {
    let first = errors.iter().find_map(|(_, error)| match error {
        load::Error::Io(files) => files.first().map(|_| "modules cannot be imported or included".to_owned()),
        load::Error::Lex(errors) => errors.first().map(|(expected, at)| place(text, expected.as_str(), at)),
        load::Error::Parse(errors) => errors.first().map(|(expected, at)| place(text, expected.as_str(), at)),
    });
    first.unwrap_or_else(|| "this is no jq program".to_owned())
}

/// What was expected where.
fn place(text: &str, expected: &str, at: &str) -> String {
    let expected = match expected {
        "" | "nothing" => "the end",
        expected => expected,
    };
    // The parser's `at` is a part of the text, but for its end, where it is an empty text of its own.
    let offset = (at.as_ptr() as usize).checked_sub(text.as_ptr() as usize).filter(|at| *at < text.len());
    match offset.filter(|_| !at.is_empty()) {
        None => format!("expected {expected} at the end of the expression"),
        Some(offset) => {
            let column = text[..offset].chars().count() + 1;
            format!("expected {expected} at character {column}, found `{}`", shortened(at, 20))
        }
    }
}

/// Which names are not there.
pub(crate) fn compiling(errors: &jaq_core::compile::Errors<&str, ()>, variables: &[String]) -> String {
    let first = errors.iter().flat_map(|(_, errors)| errors).next();
    match first {
        Some((name, Undefined::Var)) if variables.is_empty() => {
            format!("there is no variable `{name}`, and none at all here")
        }
        Some((name, Undefined::Var)) => {
            format!("there is no variable `{name}`: there are {}", variables.join(", "))
        }
        Some((name, Undefined::Filter(arity))) => absent(name, *arity),
        Some((name, what)) => format!("there is no {} `{name}`", what.as_str()),
        None => "the expression cannot be compiled".to_owned(),
    }
}

/// Names that jq has and an expression has not are told apart from those that nobody knows.
fn absent(name: &str, arity: usize) -> String {
    let why = match name {
        "env" => "an expression cannot read the environment",
        "now" | "localtime" | "strflocaltime" => "an expression cannot read the clock or the time zone",
        "input" | "inputs" | "input_filename" | "input_line_number" => "an expression has one input, `.`",
        "halt" | "halt_error" => "an expression ends with its value, or by `error`",
        "debug" | "stderr" => "an expression prints nothing",
        _ => return format!("there is no function `{name}/{arity}` (name and number of arguments)"),
    };
    format!("`{name}` may not be used: {why}")
}

/// The error that a program ended with.
pub(crate) fn failure(error: &jaq_json::Error) -> Problem {
    let text = match error.clone().into_val() {
        Val::TStr(text) => String::from_utf8_lossy(&text).into_owned(),
        other => other.to_string(),
    };
    Problem::Failed(shortened(&text, TOLD))
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
