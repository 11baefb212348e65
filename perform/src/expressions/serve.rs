//! A child's side: reads requests from its standard input, which is a socket, and answers there.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use holdpoint_expressions::Problem;
use serde_json::value::RawValue;

use super::frame::{self, Answer, Request};
use super::limits::{self, Size, Time};
use super::programs::Programs;

/// Serves until its parent closes the socket. Limits come first: without them no program runs.
pub fn serve() -> io::Result<()> {
    if io::stdin().is_terminal() {
        return Err(io::Error::other("this command is for holdpoint itself: it answers on a socket"));
    }
    let mut socket = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut from = BufReader::new(socket.try_clone()?);
    let size = Size::now();
    limits::set(&size)?;
    let (mut programs, mut time, mut buffer) = (Programs::default(), Time::default(), Vec::new());
    socket.write_all(&frame::encode(&Answer::ready())?)?;
    while frame::read(&mut from, &mut buffer)? {
        time.begin()?;
        let request: Request<'_> = serde_json::from_slice(&buffer)?;
        let outcome = guarded(&mut programs, &request);
        let retires = size.has_grown();
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

/// A panic comes from a length that nothing can have, so it counts as one more way to ask for
/// too much memory.
fn guarded(programs: &mut Programs, request: &Request<'_>) -> Result<Box<RawValue>, Problem> {
    catch_unwind(AssertUnwindSafe(|| outcome(programs, request))).unwrap_or_else(|_| std::process::abort())
}

fn outcome(programs: &mut Programs, request: &Request<'_>) -> Result<Box<RawValue>, Problem> {
    let program = programs.compiled(&request.text, &request.names)?;
    if request.only_check {
        return Ok(null());
    }
    let values: Vec<&str> = request.values.iter().map(|value| value.get()).collect();
    let text = program.run(request.input.get(), &values, request.value_bytes)?;
    RawValue::from_string(text).map_err(|error| Problem::Failed(format!("the result has no JSON: {error}")))
}
