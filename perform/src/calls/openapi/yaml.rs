//! YAML as JSON, for documents that others wrote: anchors are followed as far as a document of
//! that size may grow, tags are passed over, and keys that are no texts are read as such.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Number, Value};

/// So deep may lists and maps stand in each other.
const DEEPEST: usize = 64;
/// Values that a document may have, those that an alias repeats counted again.
const VALUES: usize = 500_000;

/// Reads the first document of the text.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), values: 0 };
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            Event::StreamEnd | Event::DocumentEnd => return Err("it is empty".to_owned()),
            event => return reader.value(event, 0),
        }
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, (Value, usize)>,
    values: usize,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Event<'t>, String> {
        match self.parser.next_event() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(Event::StreamEnd),
        }
    }

    fn value(&mut self, event: Event<'t>, depth: usize) -> Result<Value, String> {
        let before = self.values;
        self.count(1)?;
        if depth > DEEPEST {
            return Err(format!("it is deeper than {DEEPEST} levels"));
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, _) => (anchor, scalar(&text, style)),
            Event::SequenceStart(anchor, _) => (anchor, self.list(depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.map(depth)?),
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                let (value, count) = known.ok_or("an alias names what is not there")?;
                self.count(count)?;
                return Ok(value);
            }
            _ => return Err("a value is missing".to_owned()),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, (value.clone(), self.values - before));
        }
        Ok(value)
    }

    fn count(&mut self, more: usize) -> Result<(), String> {
        self.values += more;
        if self.values > VALUES { Err(format!("it has more than {VALUES} values")) } else { Ok(()) }
    }

    fn list(&mut self, depth: usize) -> Result<Value, String> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Value::Array(items)),
                event => items.push(self.value(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, String> {
        let mut members = Map::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(Value::Object(members)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err("a key is no text".to_owned()),
            };
            let event = self.next()?;
            let value = self.value(event, depth + 1)?;
            match (key.as_str(), value) {
                // The map's own members go before those that are merged in, wherever it stands.
                ("<<", Value::Object(merged)) => {
                    merged.into_iter().for_each(|(key, value)| _ = members.entry(key).or_insert(value));
                }
                (_, value) => _ = members.insert(key, value),
            }
        }
    }
}

/// As the core schema has it; what is quoted is a text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::from(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.')) => {
            Value::from(text)
        }
        _ => number(text).map_or_else(|| Value::from(text), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    Number::from_f64(text.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_is_read_as_json() {
        let text = "openapi: 3.0.3\ninfo: {title: 'x', version: \"1.0\"}\npaths:\n  /a:\n    get:\n      responses:\n        200:\n          description: ok\n      deprecated: true\nlist: [1, 2.5, ~, -3]\n";
        let read = read(text).expect("YAML");
        assert_eq!(read["openapi"], "3.0.3");
        assert_eq!(read["info"]["version"], "1.0");
        assert_eq!(read["paths"]["/a"]["get"]["responses"]["200"]["description"], "ok");
        assert_eq!(read["paths"]["/a"]["get"]["deprecated"], true);
        assert_eq!(read["list"], json!([1, 2.5, null, -3]));
    }

    #[test]
    fn anchors_are_followed_and_cannot_grow_without_end() {
        let merged = read("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n").expect("YAML");
        assert_eq!(merged["b"], json!({"x": 1, "y": 3}));
        assert_eq!(merged["c"], merged["a"]);
        let mut laughs = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let all = vec![format!("*a{}", level - 1); 10].join(", ");
            laughs += &format!("b{level}: &a{level} [{all}]\n");
        }
        assert!(read(&laughs).expect_err("too many").contains("values"));
        assert!(read(&"[".repeat(200)).is_err());
        assert!(read("").is_err());
        assert!(read("a: [1").is_err());
    }
}
