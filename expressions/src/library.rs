//! What a program may call.

use jaq_core::DataT;
use jaq_core::load::parse;
use jaq_core::load::parse::Def;
use jaq_core::native::Fun;
use jaq_json::Val;

/// Every function that jaq implements itself and a program may call. A list of what is
/// allowed, so that a later jaq brings nothing in unseen. Left out are those that read the
/// environment (`env`, `localtime`, `strflocaltime`) or the clock (`now`), end the process
/// (`halt`) or print (`debug_empty`, `stderr_empty`).
const NATIVES: &[&str] = &[
    // jaq-core
    "error_empty",
    "first",
    "key_values",
    "keys_unsorted",
    "last",
    "limit",
    "path",
    "path_value",
    "range",
    "skip",
    // jaq-json
    "bsearch",
    "contains",
    "fromjson",
    "has",
    "indices",
    "length",
    "tobytes",
    "tojson",
    // jaq-std: values and texts
    "ascii_downcase",
    "ascii_upcase",
    "ceil",
    "decode_base64",
    "decode_uri",
    "encode_base64",
    "encode_uri",
    "endswith",
    "escape_html",
    "escape_sh",
    "explode",
    "floor",
    "group_by",
    "implode",
    "ltrim",
    "ltrimstr",
    "max_by_or_empty",
    "min_by_or_empty",
    "reverse",
    "round",
    "rtrim",
    "rtrimstr",
    "sort",
    "sort_by",
    "startswith",
    "trim",
    "unescape_html",
    "utf8bytelength",
    // jaq-std: mathematics
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "copysign",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp10",
    "exp2",
    "expm1",
    "fabs",
    "fdim",
    "fma",
    "fmax",
    "fmin",
    "fmod",
    "frexp",
    "hypot",
    "ilogb",
    "j0",
    "j1",
    "jn",
    "ldexp",
    "lgamma",
    "log",
    "log10",
    "log1p",
    "log2",
    "modf",
    "nearbyint",
    "nextafter",
    "pow",
    "remainder",
    "rint",
    "scalbln",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "tgamma",
    "trunc",
    "y0",
    "y1",
    "yn",
    // jaq-std: regular expressions
    "matches",
    "split_",
    "split_matches",
    // jaq-std: times, all in UTC
    "fromdateiso8601",
    "gmtime",
    "mktime",
    "strftime",
    "strptime",
    "todateiso8601",
];

/// Definitions that stand on functions which are left out.
const LEFT_OUT: &[&str] = &["debug", "halt", "halt_error", "stderr"];

/// Our own definitions.
const ADDITIONS: &str = include_str!("additions.jq");

thread_local! {
    static LIBRARY: Library = Library::new();
}

/// The definitions in jq that a program may need. All of them would take ten times as long to
/// compile, and ten times the memory.
pub(crate) fn definitions_for(text: &str) -> Vec<Def<&'static str>> {
    LIBRARY.with(|library| library.needed(text))
}

/// All definitions, and which others each of them stands on.
struct Library {
    definitions: Vec<Def<&'static str>>,
    uses: Vec<Vec<usize>>,
}

impl Library {
    fn new() -> Self {
        let definitions: Vec<_> = definitions().collect();
        let uses = definitions.iter().map(|definition| used(definition, &definitions)).collect();
        Self { definitions, uses }
    }

    /// Those whose name is anywhere in the text, and what they stand on, in their order.
    fn needed(&self, text: &str) -> Vec<Def<&'static str>> {
        let named = |at: &usize| text.contains(self.definitions[*at].name);
        let mut open: Vec<usize> = (0..self.definitions.len()).filter(named).collect();
        let mut is_needed = vec![false; self.definitions.len()];
        while let Some(at) = open.pop() {
            if !is_needed[at] {
                is_needed[at] = true;
                open.extend(&self.uses[at]);
            }
        }
        let needed = self.definitions.iter().zip(is_needed);
        needed.filter(|(_, is_needed)| *is_needed).map(|(definition, _)| definition.clone()).collect()
    }
}

/// Found in the definition's printed form, where names are quoted: a text that reads like a
/// name makes it one too many, never one too few.
fn used(definition: &Def<&str>, all: &[Def<&str>]) -> Vec<usize> {
    let printed = format!("{:?}", definition.body);
    (0..all.len()).filter(|at| printed.contains(&format!("{:?}", all[*at].name))).collect()
}

/// What is defined in jq itself; of two with the same name the later one counts.
fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    jaq_core::defs()
        .chain(jaq_std::defs())
        .chain(jaq_json::defs())
        .filter(|definition| !LEFT_OUT.contains(&definition.name))
        .chain(parse(ADDITIONS, |parser| parser.defs()).unwrap_or_default())
}

/// What jaq implements itself.
pub(crate) fn natives<D: for<'a> DataT<V<'a> = Val>>() -> impl Iterator<Item = Fun<D>> {
    jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs())
        .filter(|(name, ..)| NATIVES.contains(name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jaq_core::data::JustLut;

    use super::*;

    /// Each definition can be compiled with those alone that it was said to need.
    #[test]
    fn what_a_definition_needs_comes_with_it() {
        for definition in definitions() {
            let arguments = vec!["."; definition.args.len()].join("; ");
            let call = match definition.args.len() {
                0 => definition.name.to_owned(),
                _ => format!("{}({arguments})", definition.name),
            };
            let compiled = crate::Program::compile(&call, &[] as &[&str]);
            assert!(compiled.is_ok(), "{call}: {:?}", compiled.err());
        }
        assert!(definitions_for(".a.b + 1").len() < 10);
    }

    /// What jaq has and we do not is decided one by one: a new name fails here.
    #[test]
    fn nothing_is_left_out_by_accident() {
        let all: BTreeSet<&str> = jaq_core::funs::<JustLut<Val>>()
            .chain(jaq_std::funs())
            .chain(jaq_json::funs())
            .map(|(name, ..)| name)
            .collect();
        let allowed: BTreeSet<&str> = NATIVES.iter().copied().collect();
        let left_out: Vec<&str> = all.difference(&allowed).copied().collect();
        let known = ["debug_empty", "env", "halt", "localtime", "now", "stderr_empty", "strflocaltime"];
        assert_eq!(left_out, known);
        assert_eq!(allowed.difference(&all).count(), 0, "a name that jaq does not have");
    }
}
