//! What goes over the socket between us and a child: JSON with its length before it.

use std::borrow::Cow;
use std::io::{self, Read};

use holdpoint_engine::workflow::expression::{Expression, ExpressionError};
use holdpoint_expressions::{Problem, TEXT_BYTES, VALUE_NESTING};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The largest request, in bytes: input and variables together, as JSON.
const REQUEST_BYTES: usize = 8 * 1024 * 1024;
/// The bytes of a length.
pub(super) const HEAD: usize = 4;

/// What a child is asked.
#[derive(Serialize)]
struct Asked<'a> {
    only_check: bool,
    text: &'a str,
    names: Vec<&'a str>,
    values: Vec<&'a Value>,
    input: &'a Value,
    value_bytes: usize,
}

/// The same on the child's side.
#[derive(Deserialize)]
pub(super) struct Request<'a> {
    /// Compile, and do not run: values and input are none.
    pub only_check: bool,
    #[serde(borrow)]
    pub text: Cow<'a, str>,
    #[serde(borrow)]
    pub names: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    pub values: Vec<&'a RawValue>,
    #[serde(borrow)]
    pub input: &'a RawValue,
    pub value_bytes: usize,
}

/// What a child answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The result, or what was wrong.
    pub outcome: Result<Box<RawValue>, Problem>,
    /// What the child's processor time was after it, in nanoseconds.
    pub cpu: u64,
    /// It holds more memory than an idle child should: it ends now.
    pub retires: bool,
}

/// The frame that asks for a program's value.
pub(super) fn evaluate(
    expression: &Expression,
    input: &Value,
    variables: &[(&str, &Value)],
    value_bytes: usize,
) -> Result<Vec<u8>, ExpressionError> {
    // What a program does not name, it cannot use: a large one that nobody needs costs nothing.
    let named = variables.iter().copied().filter(|(name, _)| expression.0.contains(name));
    let (names, values) = named.unzip();
    framed(&Asked { only_check: false, text: &expression.0, names, values, input, value_bytes })
}

/// The frame that asks whether a program can be compiled.
pub(super) fn check(expression: &Expression, names: &[&str]) -> Result<Vec<u8>, ExpressionError> {
    let (names, values, input) = (names.to_vec(), vec![], &Value::Null);
    framed(&Asked { only_check: true, text: &expression.0, names, values, input, value_bytes: 0 })
}

fn framed(asked: &Asked<'_>) -> Result<Vec<u8>, ExpressionError> {
    if asked.text.len() > TEXT_BYTES {
        let bytes = asked.text.len();
        let told = format!("the expression has {bytes} bytes: it may have {TEXT_BYTES}");
        return Err(ExpressionError::Invalid(told));
    }
    let frame = encode(asked).map_err(|error| ExpressionError::Failed(format!("input: {error}")))?;
    if frame.len() > REQUEST_BYTES {
        return Err(ExpressionError::Limit { name: "expression_input_bytes", limit: REQUEST_BYTES as u64 });
    }
    Ok(frame)
}

/// A frame of what is sent, in one piece.
pub(super) fn encode(sent: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEAD];
    serde_json::to_writer(&mut frame, sent)?;
    let length = u32::try_from(frame.len() - HEAD).map_err(io::Error::other)?;
    frame[..HEAD].copy_from_slice(&length.to_le_bytes());
    Ok(frame)
}

/// Reads one frame into `buffer`, from a child's point of view: `false` at a clean end.
pub(super) fn read(from: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut head = [0; HEAD];
    match from.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        read => read?,
    }
    let length = u32::from_le_bytes(head) as usize;
    if length > REQUEST_BYTES {
        return Err(io::Error::other("a frame that is too long"));
    }
    buffer.resize(length, 0);
    from.read_exact(buffer)?;
    Ok(true)
}

impl Answer {
    /// The value, or the problem in the engine's words.
    pub fn value(self) -> Result<Value, ExpressionError> {
        match self.outcome {
            Ok(text) => serde_json::from_str(text.get())
                .map_err(|error| ExpressionError::Failed(format!("the result has no JSON: {error}"))),
            Err(problem) => Err(told(problem)),
        }
    }
}

/// A problem in the engine's words.
pub(super) fn told(problem: Problem) -> ExpressionError {
    match problem {
        Problem::Invalid(why) => ExpressionError::Invalid(why),
        Problem::Failed(why) => ExpressionError::Failed(why),
        Problem::Several => ExpressionError::Several,
        Problem::TooLarge(limit) => ExpressionError::Limit { name: "value_bytes", limit: limit as u64 },
        Problem::TooDeep => ExpressionError::Limit { name: "nesting", limit: VALUE_NESTING as u64 },
    }
}
