//! A child's side: reads requests from its standard input, which is a socket, and answers there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use holdpoint_expressions::{Problem, Program};
use serde_json::value::RawValue;

use super::MEMORY_BYTES;
use super::frame::{self, Answer, Request};
use super::limits;

/// Compiled programs that are kept, and the bytes of their texts.
const KEPT: usize = 128;
const KEPT_BYTES: usize = 256 * 1024;
/// A child that holds more after an answer ends itself, so that the next program has its
/// memory for itself.
const HELD_BYTES: u64 = MEMORY_BYTES / 4;

/// Serves until its parent closes the socket. Limits come first: without them no program runs.
pub fn serve() -> io::Result<()> {
    let mut socket = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    limits::set()?;
    let mut from = BufReader::new(socket.try_clone()?);
    let held = limits::data_bytes().unwrap_or(u64::MAX);
    let mut programs = Programs::default();
    let mut buffer = Vec::new();
    socket.write_all(&frame::encode(&Answer::ready())?)?;
    while frame::read(&mut from, &mut buffer)? {
        limits::begin_time()?;
        let request: Request<'_> = serde_json::from_slice(&buffer)?;
        let outcome = programs.guarded(&request);
        let retires = limits::data_bytes().is_some_and(|now| now > held.saturating_add(HELD_BYTES));
        socket.write_all(&frame::encode(&Answer { outcome, cpu: limits::cpu(), retires })?)?;
        if retires {
            break;
        }
    }
    Ok(())
}

impl Answer {
    fn ready() -> Self {
        Self { outcome: Ok(null()), cpu: limits::cpu(), retires: false }
    }
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

/// What makes a program another one.
#[derive(PartialEq, Eq, Hash)]
struct Name {
    text: String,
    variables: Vec<String>,
}

/// Compiled programs, the least recently used of which go first.
#[derive(Default)]
struct Programs {
    kept: HashMap<Name, (u64, Program)>,
    bytes: usize,
    uses: u64,
}

impl Programs {
    /// jaq panics where a capacity overflows: as much as that is never to be had.
    fn guarded(&mut self, request: &Request<'_>) -> Result<Box<RawValue>, Problem> {
        catch_unwind(AssertUnwindSafe(|| self.outcome(request))).unwrap_or_else(|_| std::process::abort())
    }

    fn outcome(&mut self, request: &Request<'_>) -> Result<Box<RawValue>, Problem> {
        let program = self.compiled(request)?;
        let Some(input) = request.input else { return Ok(null()) };
        let values: Vec<&str> = request.values.iter().map(|value| value.get()).collect();
        let text = program.run(input.get(), &values, request.value_bytes)?;
        RawValue::from_string(text)
            .map_err(|error| Problem::Failed(format!("the result has no JSON: {error}")))
    }

    fn compiled(&mut self, request: &Request<'_>) -> Result<&Program, Problem> {
        self.uses += 1;
        let name = Name {
            text: request.text.to_string(),
            variables: request.names.iter().map(ToString::to_string).collect(),
        };
        if !self.kept.contains_key(&name) {
            let program = Program::compile(&request.text, &request.names)?;
            self.bytes += name.text.len();
            self.make_room();
            self.kept.insert(
                Name { text: name.text.clone(), variables: name.variables.clone() },
                (self.uses, program),
            );
        }
        let kept = self.kept.get_mut(&name).ok_or(Problem::Several)?;
        kept.0 = self.uses;
        Ok(&kept.1)
    }

    fn make_room(&mut self) {
        while self.kept.len() >= KEPT || (self.bytes > KEPT_BYTES && !self.kept.is_empty()) {
            let oldest =
                self.kept.iter().min_by_key(|(_, (used, _))| *used).map(|(name, _)| name.text.clone());
            let Some(text) = oldest else { return };
            self.kept.retain(|name, _| name.text != text);
            self.bytes = self.kept.keys().map(|name| name.text.len()).sum();
        }
    }
}
