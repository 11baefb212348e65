//! One route: where it is, what it asks of a key's role, who handles it, and what it says of
//! itself. A route cannot be listed without the last, so the description knows them all.

use std::sync::Arc;

use axum::handler::Handler;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;

use crate::app::App;
use crate::auth::{Right, require};
use crate::chat::openai::openai_errors;
use crate::openapi::Operation;

/// One route.
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path, with names between braces.
    pub path: &'static str,
    /// What it asks of a key's role; open to everybody where it asks nothing.
    pub right: Option<Right>,
    /// What it takes and answers.
    pub doc: fn() -> Operation,
    handler: MethodRouter<Arc<App>>,
    openais_shape: bool,
}

macro_rules! methods {
    ($($name:ident $method:ident),+) => {
        impl Route {
            $(
                /// A route with this method.
                pub fn $name<T: 'static>(
                    path: &'static str,
                    right: impl Into<Option<Right>>,
                    handler: impl Handler<T, Arc<App>>,
                    doc: fn() -> Operation,
                ) -> Self {
                    let handler = on(MethodFilter::$method, handler);
                    let right = right.into();
                    Self { method: Method::$method, path, right, doc, handler, openais_shape: false }
                }
            )+
        }
    };
}

methods!(get GET, post POST, put PUT, delete DELETE);

impl Route {
    /// All its errors are told in OpenAI's shape, those of the key too.
    pub fn in_openais_shape(self) -> Self {
        Self { openais_shape: true, ..self }
    }

    /// The handler behind what its right asks for.
    pub fn guarded(self, app: &Arc<App>) -> MethodRouter<Arc<App>> {
        let guarded = match self.right {
            Some(right) => self.handler.route_layer(from_fn_with_state((Arc::clone(app), right), require)),
            None => self.handler,
        };
        if self.openais_shape { guarded.route_layer(from_fn(openai_errors)) } else { guarded }
    }
}
