//! `POST /api/chat` and `GET /api/chat/{conversation_id}/stream`, as the chat transports of the
//! `ai` package speak them: UI messages in, the UI message stream (version 1) out.
//!
//! The conversation is ours: of what a client sends, only what is new is taken (its last
//! message, if the user said it, or the decisions in it).

mod chat;
mod decisions;
mod message;
mod parts;
mod resume;
mod stream;

pub use chat::{doc, handle};
pub use resume::{doc as resume_doc, handle as resume};
