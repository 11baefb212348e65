//! Between JSON and jaq's values, which have more: bytes, keys of any kind, numbers without end.

use std::fmt::Write;

use jaq_json::{Num, Val, read};

use crate::{Problem, VALUE_NESTING};

/// Up to here a double counts every integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads one value. Its text was written by us: an error is ours.
pub(crate) fn read(text: &str) -> Result<Val, Problem> {
    read::parse_single(text.as_bytes()).map_err(|error| Problem::Failed(format!("input: {error}")))
}

/// The text of a value, or why there is none.
pub(crate) fn write(value: &Val, most: usize) -> Result<String, Problem> {
    let mut out = Out { text: String::new(), most };
    out.value(value, 0)?;
    Ok(out.text)
}

struct Out {
    text: String,
    most: usize,
}

impl Out {
    fn value(&mut self, value: &Val, depth: usize) -> Result<(), Problem> {
        if depth > VALUE_NESTING {
            return Err(Problem::TooDeep);
        }
        match value {
            Val::Null => self.text.push_str("null"),
            Val::Bool(value) => self.text.push_str(if *value { "true" } else { "false" }),
            Val::Num(number) => self.number(number)?,
            Val::TStr(text) => self.string(text)?,
            Val::BStr(_) => return Err(no_json("bytes (`tobytes`)")),
            Val::Arr(items) => {
                self.text.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.comma(index);
                    self.value(item, depth + 1)?;
                }
                self.text.push(']');
            }
            Val::Obj(members) => {
                self.text.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    self.comma(index);
                    match key {
                        Val::TStr(key) => self.string(key)?,
                        _ => return Err(no_json("an object with a key that is no string")),
                    }
                    self.text.push(':');
                    self.value(value, depth + 1)?;
                }
                self.text.push('}');
            }
        }
        self.bounded()
    }

    fn bounded(&self) -> Result<(), Problem> {
        if self.text.len() > self.most { Err(Problem::TooLarge(self.most)) } else { Ok(()) }
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.text.push(',');
        }
    }

    /// Bytes that are no UTF-8 are replaced, as jq does.
    fn string(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        if bytes.len() > self.most {
            return Err(Problem::TooLarge(self.most));
        }
        let text = serde_json::to_string(&String::from_utf8_lossy(bytes)).map_err(|_| no_json("a string"))?;
        self.text.push_str(&text);
        Ok(())
    }

    /// A number that was only passed on stays as it was; one that was calculated and is whole
    /// is written as an integer, as jq does.
    fn number(&mut self, number: &Num) -> Result<(), Problem> {
        match number {
            Num::Int(value) => self.push(value),
            Num::BigInt(value) => match u64::try_from(&**value) {
                Ok(value) => self.push(value),
                Err(_) => self.float(value.to_string().parse().unwrap_or(f64::NAN)),
            },
            Num::Float(value) if value.fract() == 0.0 && value.abs() <= EXACT => self.push(*value as i64),
            Num::Float(value) => self.float(*value),
            Num::Dec(value) => self.float(value.parse().unwrap_or(f64::NAN)),
        }
    }

    fn float(&mut self, value: f64) -> Result<(), Problem> {
        match serde_json::Number::from_f64(value) {
            Some(number) => self.push(number),
            None if value.is_nan() => Err(no_json("not a number (NaN)")),
            None => Err(no_json("infinite, or a number beyond a double's range")),
        }
    }

    fn push(&mut self, shown: impl std::fmt::Display) -> Result<(), Problem> {
        write!(self.text, "{shown}").map_err(|_| no_json("a number"))
    }
}

fn no_json(what: &str) -> Problem {
    Problem::Failed(format!("the result has no JSON: it is or holds {what}"))
}
