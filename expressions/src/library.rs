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

/// What is defined in jq itself; of two with the same name the later one counts.
pub(crate) fn definitions() -> impl Iterator<Item = Def<&'static str>> {
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
