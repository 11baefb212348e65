//! Plain scalars as YAML 1.2's core schema reads them.

use serde_json::Number;

use super::node::Kind;

/// What a scalar without quotes is; an error where it is a number that JSON does not hold.
pub(super) fn plain(text: &str) -> Result<Kind, &'static str> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Kind::Null),
        "true" | "True" | "TRUE" => return Ok(Kind::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Kind::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err("a number that JSON does not have");
    }
    if let Some(number) = radix(text) {
        return number.map(Kind::Number);
    }
    if is_digits(unsigned) {
        return integer(text).map(Kind::Number);
    }
    if is_float(unsigned) {
        return float(text).map(Kind::Number);
    }
    Ok(Kind::Text(text.to_owned()))
}

const BEYOND: &str = "a number beyond what a 64-bit integer or a double holds";

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `0o17` and `0x1F`.
fn radix(text: &str) -> Option<Result<Number, &'static str>> {
    let (digits, radix) = match text.get(..2)? {
        "0o" => (&text[2..], 8),
        "0x" => (&text[2..], 16),
        _ => return None,
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some(u64::from_str_radix(digits, radix).map(Number::from).map_err(|_| BEYOND))
}

fn integer(text: &str) -> Result<Number, &'static str> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let signed = text.parse::<i64>().map(Number::from);
    signed.or_else(|_| text.parse::<u64>().map(Number::from)).map_err(|_| BEYOND)
}

/// `1.5`, `.5`, `1.`, `1e3`.
fn is_float(unsigned: &str) -> bool {
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let exponent_fits =
        exponent.is_none_or(|exponent| is_digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)));
    let mantissa_fits = match mantissa.split_once('.') {
        Some((whole, "")) => is_digits(whole),
        Some(("", fraction)) => is_digits(fraction),
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
        None => is_digits(mantissa),
    };
    mantissa_fits && exponent_fits
}

fn float(text: &str) -> Result<Number, &'static str> {
    text.parse::<f64>().ok().and_then(Number::from_f64).ok_or(BEYOND)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn plain_scalars_are_those_of_the_core_schema() {
        let number = |value: Value| match value {
            Value::Number(number) => Kind::Number(number),
            _ => Kind::Null,
        };
        for (text, value) in [
            ("12", json!(12)),
            ("-12", json!(-12)),
            ("+12", json!(12)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("1.", json!(1.0)),
            ("-1e3", json!(-1000.0)),
            ("18446744073709551615", json!(u64::MAX)),
        ] {
            assert_eq!(plain(text), Ok(number(value)), "{text}");
        }
        for text in ["0.1.0", "yes", "no", "on", "1_000", "12:30", "1e", ".", "-", "0x", "0b1", "e5"] {
            assert_eq!(plain(text), Ok(Kind::Text(text.to_owned())), "{text}");
        }
        for text in [".inf", "-.Inf", ".nan", "18446744073709551616", "1e400", "0xFFFFFFFFFFFFFFFFF"] {
            assert!(plain(text).is_err(), "{text}");
        }
    }
}
