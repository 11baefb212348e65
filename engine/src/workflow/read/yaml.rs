//! YAML, by its events.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::node::{Kind, Member, Node, Place};
use super::{MAX_NESTING, WorkflowError, below, check_text, error, scalar, too_deep};

/// Reads the only document of the text.
pub(super) fn read(text: &str) -> Result<Node, WorkflowError> {
    let mut reader = Reader { parser: Parser::new_from_str(text), last: Place { line: 1, column: 1 } };
    let root = loop {
        match reader.next("")? {
            (Event::StreamEnd, place) => return Err(error(place, "", "the document is empty")),
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            event => break reader.node(event, "", 0)?,
        }
    };
    loop {
        match reader.next("")? {
            (Event::StreamEnd, _) => return Ok(root),
            (Event::DocumentEnd | Event::Nothing, _) => {}
            (_, place) => return Err(error(place, "", "a second document: a file holds one workflow")),
        }
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    last: Place,
}

type Next<'t> = (Event<'t>, Place);

impl<'t> Reader<'t> {
    fn next(&mut self, pointer: &str) -> Result<Next<'t>, WorkflowError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.last = begin(span);
                Ok((event, self.last))
            }
            Some(Err(found)) => Err(unreadable(&found, pointer)),
            None => Ok((Event::StreamEnd, self.last)),
        }
    }

    fn node(&mut self, event: Next<'t>, pointer: &str, depth: usize) -> Result<Node, WorkflowError> {
        let (event, place) = event;
        let kind = match event {
            Event::Scalar(_, _, anchor, ref tag) => {
                refuse_extras(anchor, tag.is_some(), place, pointer)?;
                scalar_kind(event, place, pointer)?
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_extras(anchor, tag.is_some(), place, pointer)?;
                Kind::List(self.items(place, pointer, depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                refuse_extras(anchor, tag.is_some(), place, pointer)?;
                Kind::Map(self.members(place, pointer, depth)?)
            }
            Event::Alias(_) => return Err(error(place, pointer, ALIAS)),
            _ => return Err(error(place, pointer, "a value is missing")),
        };
        Ok(Node { place, kind })
    }

    fn items(&mut self, place: Place, pointer: &str, depth: usize) -> Result<Vec<Node>, WorkflowError> {
        if depth >= MAX_NESTING {
            return Err(too_deep(place, pointer));
        }
        let mut items = Vec::new();
        loop {
            let at = format!("{pointer}/{}", items.len());
            match self.next(&at)? {
                (Event::SequenceEnd, _) => return Ok(items),
                event => items.push(self.node(event, &at, depth + 1)?),
            }
        }
    }

    fn members(&mut self, place: Place, pointer: &str, depth: usize) -> Result<Vec<Member>, WorkflowError> {
        if depth >= MAX_NESTING {
            return Err(too_deep(place, pointer));
        }
        let mut members = Vec::new();
        let mut seen = std::collections::HashSet::new();
        loop {
            let (event, place) = self.next(pointer)?;
            if matches!(event, Event::MappingEnd) {
                return Ok(members);
            }
            let key = key((event, place), pointer)?;
            let at = below(pointer, &key);
            if !seen.insert(key.clone()) {
                return Err(error(place, &at, format!("the key `{key}` stands twice")));
            }
            let event = self.next(&at)?;
            let value = self.node(event, &at, depth + 1)?;
            members.push(Member { key, place, value });
        }
    }
}

const ALIAS: &str = "an alias (`*`): write the value itself; what is reused stands in `use`";

fn begin(span: Span) -> Place {
    place(&span.start)
}

fn place(marker: &Marker) -> Place {
    Place { line: marker.line().max(1), column: marker.col() + 1 }
}

fn unreadable(found: &ScanError, pointer: &str) -> WorkflowError {
    error(place(found.marker()), pointer, format!("this is no YAML: {}", found.info()))
}

fn refuse_extras(anchor: usize, tagged: bool, place: Place, pointer: &str) -> Result<(), WorkflowError> {
    if anchor != 0 {
        return Err(error(place, pointer, "an anchor (`&`): what is reused stands in `use`"));
    }
    if tagged {
        return Err(error(place, pointer, "a tag (`!`): values are those of JSON"));
    }
    Ok(())
}

fn scalar_kind(event: Event<'_>, place: Place, pointer: &str) -> Result<Kind, WorkflowError> {
    let Event::Scalar(text, style, ..) = event else { return Ok(Kind::Null) };
    check_text(&text, place, pointer)?;
    if style == ScalarStyle::Plain {
        return scalar::plain(&text).map_err(|message| error(place, pointer, message));
    }
    Ok(Kind::Text(text.into_owned()))
}

/// A key is text: `404:` and `true:` would be other keys for other readers.
fn key((event, place): Next<'_>, pointer: &str) -> Result<String, WorkflowError> {
    match event {
        Event::Scalar(ref text, _, anchor, ref tag) => {
            let shown = text.to_string();
            refuse_extras(anchor, tag.is_some(), place, pointer)?;
            match scalar_kind(event, place, pointer)? {
                Kind::Text(key) => Ok(key),
                _ => {
                    let message = format!("the key `{shown}` is not text: write \"{shown}\" in quotes");
                    Err(error(place, pointer, message))
                }
            }
        }
        Event::Alias(_) => Err(error(place, pointer, ALIAS)),
        _ => Err(error(place, pointer, "a key that is a list or an object: a key is text")),
    }
}
