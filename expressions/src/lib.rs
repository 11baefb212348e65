//! jq programs, compiled and run by jaq, without any guard on time, memory or stack: a program
//! may end the process that runs it. `holdpoint-perform` runs them in a process of their own.
//!
//! A program has only its input and its variables: no environment, clock, files, other inputs
//! or output, and no way to end the process by its own word (`library.rs`).

mod json;
mod library;
mod nesting;
mod told;

use jaq_core::data::JustLut;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars, unwrap_valr};
use jaq_json::Val;
use serde::{Deserialize, Serialize};

/// The longest program, in bytes.
pub const TEXT_BYTES: usize = 64 * 1024;
/// The deepest nesting of brackets in a program.
pub const TEXT_NESTING: usize = 256;
/// The deepest nesting of a result.
pub const VALUE_NESTING: usize = 64;

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// It is no jq program, or names what is not there.
    Invalid(String),
    /// It ended with an error, or its result is no JSON.
    Failed(String),
    /// It has more than one result.
    Several,
    /// Its result has more bytes than this.
    TooLarge(usize),
    /// Its result is nested deeper than [`VALUE_NESTING`].
    TooDeep,
}

/// A compiled program.
pub struct Program {
    filter: Filter<JustLut<Val>>,
}

impl Program {
    /// Compiles a program that may use variables of these names (without `$`).
    pub fn compile(text: &str, variables: &[impl AsRef<str>]) -> Result<Self, Problem> {
        if text.len() > TEXT_BYTES {
            return Err(Problem::Invalid(format!(
                "the expression has {} bytes: it may have {TEXT_BYTES}",
                text.len()
            )));
        }
        nesting::check(text)?;
        let names: Vec<String> = variables.iter().map(|name| format!("${}", name.as_ref())).collect();
        let arena = Arena::default();
        let modules = Loader::new(library::definitions_for(text))
            .load(&arena, File { code: text, path: () })
            .map_err(|errors| Problem::Invalid(told::loading(text, &errors)))?;
        let filter = Compiler::default()
            .with_funs(library::natives())
            .with_global_vars(names.iter().map(String::as_str))
            .compile(modules)
            .map_err(|errors| Problem::Invalid(told::compiling(&errors, &names)))?;
        Ok(Self { filter })
    }

    /// The only result as JSON; none is `null`. Input and variables are JSON as well, the
    /// variables in the order in which they were named.
    pub fn run(&self, input: &str, variables: &[&str], value_bytes: usize) -> Result<String, Problem> {
        let values = variables.iter().map(|text| json::read(text)).collect::<Result<Vec<_>, _>>()?;
        let context = Ctx::<JustLut<Val>>::new(&self.filter.lut, Vars::new(values));
        let mut results = self.filter.id.run((context, json::read(input)?)).map(unwrap_valr);
        let first = results.next().transpose().map_err(|error| told::failure(&error))?;
        let second = results.next().transpose().map_err(|error| told::failure(&error))?;
        match (first, second) {
            (_, Some(_)) => Err(Problem::Several),
            (None, None) => Ok("null".to_owned()),
            (Some(value), None) => json::write(&value, value_bytes),
        }
    }
}

#[cfg(test)]
mod tests;
