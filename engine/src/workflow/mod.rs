//! Workflows: the CNCF Serverless Workflow DSL 1.0.x in a strict profile
//! (`docs/workflow-profile.md`), as a document that was checked whole, and as a pure
//! interpreter over it.

mod check;
pub mod document;
pub mod duration;
pub mod expression;
pub mod fault;
mod input;
#[cfg(test)]
pub(crate) mod jq;
mod read;
pub mod state;

pub use check::MAX_ERRORS;
pub use input::Misfit;
pub use read::{MAX_DOCUMENT, WorkflowError, error_at, to_value};

/// The prefix of the error types that the specification defines.
pub const ERRORS: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/";

/// The prefix that earlier versions of the specification used; in a filter it means the same.
pub const ERRORS_BEFORE: &str = "https://serverlessworkflow.io/dsl/errors/types/";
