//! Where an operation's parameters go, and how lists and objects are written there.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::super::request::text;

/// What stands for itself in a path (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where a parameter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Header,
    Cookie,
    /// 2.0: a member of a form.
    Form,
    /// 2.0: the whole body.
    Body,
}

/// How lists and objects are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Simple,
    Label,
    Matrix,
    Form,
    Delimited(char),
    DeepObject,
    /// One JSON text.
    Json,
}

/// A parameter of an operation, but for the body.
#[derive(Debug)]
pub(super) struct Parameter<'d> {
    pub name: &'d str,
    pub place: Place,
    pub required: bool,
    style: Style,
    explode: bool,
}

impl Place {
    /// `in`; none is not one that we know.
    pub fn read(parameter: &Value, old: bool) -> Option<Self> {
        Some(match parameter.get("in")?.as_str()? {
            "path" => Place::Path,
            "query" => Place::Query,
            "header" => Place::Header,
            "cookie" if !old => Place::Cookie,
            "formData" if old => Place::Form,
            "body" if old => Place::Body,
            _ => return None,
        })
    }
}

impl<'d> Parameter<'d> {
    /// One that is no body.
    pub fn read(parameter: &'d Value, old: bool) -> Option<Self> {
        let place = Place::read(parameter, old).filter(|place| *place != Place::Body)?;
        let name = parameter.get("name")?.as_str()?;
        let is = |key: &str| parameter.get(key).and_then(Value::as_bool);
        let required = place == Place::Path || is("required") == Some(true);
        let (style, explode) = if old {
            old_style(parameter, place)
        } else {
            let style = style(parameter, place);
            (style, is("explode").unwrap_or(matches!(style, Style::Form | Style::DeepObject)))
        };
        Some(Self { name, place, required, style, explode })
    }

    /// As a part of the path.
    pub fn in_path(&self, value: &Value) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
        self.joined(value, &encoded)
    }

    /// As a header's value.
    pub fn in_header(&self, value: &Value) -> String {
        self.joined(value, &str::to_owned)
    }

    fn joined(&self, value: &Value, encoded: &dyn Fn(&str) -> String) -> String {
        let one = |value: &Value| encoded(&text(value));
        let (lead, between) = match (self.style, self.explode) {
            (Style::Label, true) => (".", "."),
            (Style::Label, false) => (".", ","),
            (Style::Matrix, _) => (";", if self.explode { ";" } else { "," }),
            _ => ("", ","),
        };
        let name =
            if self.style == Style::Matrix { format!("{}=", encoded(self.name)) } else { String::new() };
        match value {
            _ if self.style == Style::Json => encoded(&value.to_string()),
            Value::Array(items) if self.style == Style::Matrix && self.explode => {
                let items: Vec<_> = items.iter().map(|item| format!("{name}{}", one(item))).collect();
                format!("{lead}{}", items.join(between))
            }
            Value::Array(items) => {
                format!("{lead}{name}{}", items.iter().map(one).collect::<Vec<_>>().join(between))
            }
            Value::Object(members) => {
                let sign = if self.explode { "=" } else { "," };
                let member =
                    |(key, value): (&String, &Value)| format!("{}{sign}{}", encoded(key), one(value));
                let members: Vec<_> = members.iter().map(member).collect();
                let name = if self.explode { "" } else { &*name };
                format!("{lead}{name}{}", members.join(between))
            }
            single => format!("{lead}{name}{}", one(single)),
        }
    }

    /// As pairs of a query, a form or a cookie.
    pub fn pairs(&self, value: &Value) -> Vec<(String, String)> {
        let named = |text: String| (self.name.to_owned(), text);
        let between = if let Style::Delimited(between) = self.style { between } else { ',' }.to_string();
        match value {
            _ if self.style == Style::Json => vec![named(value.to_string())],
            Value::Array(items) if self.explode => items.iter().map(|item| named(text(item))).collect(),
            Value::Array(items) if items.is_empty() => Vec::new(),
            Value::Array(items) => vec![named(items.iter().map(text).collect::<Vec<_>>().join(&between))],
            Value::Object(_) if self.style == Style::DeepObject => deep(self.name, value),
            Value::Object(members) if self.explode => {
                members.iter().map(|(key, value)| (key.clone(), text(value))).collect()
            }
            Value::Object(members) => {
                let flat: Vec<_> =
                    members.iter().flat_map(|(key, value)| [key.clone(), text(value)]).collect();
                vec![named(flat.join(&between))]
            }
            single => vec![named(text(single))],
        }
    }
}

fn style(parameter: &Value, place: Place) -> Style {
    if parameter.get("content").is_some() {
        return Style::Json;
    }
    match (parameter.get("style").and_then(Value::as_str), place) {
        (Some("label"), _) => Style::Label,
        (Some("matrix"), _) => Style::Matrix,
        (Some("spaceDelimited"), _) => Style::Delimited(' '),
        (Some("pipeDelimited"), _) => Style::Delimited('|'),
        (Some("deepObject"), _) => Style::DeepObject,
        (_, Place::Path | Place::Header) => Style::Simple,
        _ => Style::Form,
    }
}

fn old_style(parameter: &Value, place: Place) -> (Style, bool) {
    match (parameter.get("collectionFormat").and_then(Value::as_str), place) {
        (Some("multi"), _) => (Style::Form, true),
        (Some("ssv"), _) => (Style::Delimited(' '), false),
        (Some("tsv"), _) => (Style::Delimited('\t'), false),
        (Some("pipes"), _) => (Style::Delimited('|'), false),
        (_, Place::Path | Place::Header) => (Style::Simple, false),
        _ => (Style::Form, false),
    }
}

/// `name[key][key]`, as deep as it goes; a list is several of one name.
fn deep(name: &str, value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Object(members) => {
            members.iter().flat_map(|(key, value)| deep(&format!("{name}[{key}]"), value)).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| deep(name, item)).collect(),
        Value::Null => Vec::new(),
        single => vec![(name.to_owned(), text(single))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(parameter: Value, value: Value) -> String {
        let parameter = Parameter::read(&parameter, false).expect("a parameter");
        match parameter.place {
            Place::Path => parameter.in_path(&value),
            Place::Header => parameter.in_header(&value),
            _ => {
                let pairs = parameter.pairs(&value);
                pairs.iter().map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>().join("&")
            }
        }
    }

    /// The table of the specification's section on styles, for `color`.
    #[test]
    fn styles_are_those_of_the_specification() {
        let list = || json!(["blue", "black"]);
        let object = || json!({"B": 150, "R": 100});
        for (place, style, explode, of_text, of_list, of_object) in [
            ("path", "matrix", false, ";color=blue", ";color=blue,black", ";color=B,150,R,100"),
            ("path", "matrix", true, ";color=blue", ";color=blue;color=black", ";B=150;R=100"),
            ("path", "label", false, ".blue", ".blue,black", ".B,150,R,100"),
            ("path", "label", true, ".blue", ".blue.black", ".B=150.R=100"),
            ("path", "simple", false, "blue", "blue,black", "B,150,R,100"),
            ("header", "simple", true, "blue", "blue,black", "B=150,R=100"),
            ("query", "form", false, "color=blue", "color=blue,black", "color=B,150,R,100"),
            ("query", "form", true, "color=blue", "color=blue&color=black", "B=150&R=100"),
            ("query", "spaceDelimited", false, "color=blue", "color=blue black", "color=B 150 R 100"),
            ("query", "pipeDelimited", false, "color=blue", "color=blue|black", "color=B|150|R|100"),
            (
                "query",
                "deepObject",
                true,
                "color=blue",
                "color=blue&color=black",
                "color[B]=150&color[R]=100",
            ),
        ] {
            let parameter = || json!({"name": "color", "in": place, "style": style, "explode": explode});
            let what = format!("{place} {style} {explode}");
            assert_eq!(written(parameter(), json!("blue")), of_text, "{what}");
            assert_eq!(written(parameter(), list()), of_list, "{what}");
            assert_eq!(written(parameter(), object()), of_object, "{what}");
        }
    }

    #[test]
    fn what_a_path_could_read_otherwise_is_encoded() {
        let parameter = || json!({"name": "id", "in": "path"});
        assert_eq!(written(parameter(), json!("a/b?c#d e%")), "a%2Fb%3Fc%23d%20e%25");
        assert_eq!(written(parameter(), json!(7)), "7");
        let by_content = json!({"name": "q", "in": "query", "content": {"application/json": {}}});
        assert_eq!(written(by_content, json!({"a": [1]})), "q={\"a\":[1]}");
    }

    #[test]
    fn lists_of_2_0_are_written_by_their_format() {
        let of = |format: &str| {
            let parameter = json!({"name": "tag", "in": "query", "collectionFormat": format});
            Parameter::read(&parameter, true).expect("a parameter").pairs(&json!(["a", "b"]))
        };
        let one = |text: &str| vec![("tag".to_owned(), text.to_owned())];
        assert_eq!(of("csv"), one("a,b"));
        assert_eq!(of("ssv"), one("a b"));
        assert_eq!(of("pipes"), one("a|b"));
        assert_eq!(of("multi").len(), 2);
    }
}
