//! `POST /v1/chat/completions` and `GET /v1/models`, as the OpenAI clients speak them.

mod completion;
mod description;
mod error;
mod request;
mod stream;
mod translate;

pub use completion::handle;
pub use description::doc;
pub use error::openai_errors;
