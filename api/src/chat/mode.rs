//! How a turn is to be run.

use holdpoint_engine::status::ExecutionMode;

use crate::problem::{Answer, Code, Problem};

/// `execution_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// With a journal; it survives this process.
    Durable,
    /// Without a journal, in this process.
    Classic,
}

impl From<ExecutionMode> for Mode {
    fn from(mode: ExecutionMode) -> Self {
        match mode {
            ExecutionMode::Durable => Mode::Durable,
            ExecutionMode::Classic => Mode::Classic,
        }
    }
}

impl Mode {
    /// Reads the word; another one is refused.
    pub fn parse(word: &str) -> Answer<Self> {
        match word {
            "durable" => Ok(Mode::Durable),
            "classic" => Ok(Mode::Classic),
            _ => Err(Problem::new(Code::InvalidBody, "`execution_mode`: it may be `durable` or `classic`")
                .with("field", "execution_mode")),
        }
    }
}
