//! `POST /v1/chat/completions` and `GET /v1/models`, as the OpenAI clients speak them.

mod completion;
pub mod error;
pub mod models;
mod request;
mod stream;
mod translate;

pub use completion::{doc, handle};
pub use error::openai_errors;
pub use request::agent_of;
