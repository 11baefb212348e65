//! One route: where it is, what it asks of a key's role, who handles it, and what it says of
//! itself. A route cannot be listed without the last, so the description knows them all.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::handler::Handler;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;

use crate::app::App;
use crate::auth::{Right, require};
use crate::chat::openai::openai_errors;
use crate::openapi::{Operation, Place};
use crate::params::Params;

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

    /// The handler behind what its right asks for, and then a look at the query. Doors without
    /// a key ignore what they do not know: probes and cron services add what they like.
    pub fn guarded(self, app: &Arc<App>) -> MethodRouter<Arc<App>> {
        let guarded = match (self.right, KnownQuery::of(&(self.doc)())) {
            (None, _) => self.handler,
            (Some(right), known) => self
                .handler
                .route_layer(from_fn_with_state(known, only_known))
                .route_layer(from_fn_with_state((Arc::clone(app), right), require)),
        };
        if self.openais_shape { guarded.route_layer(from_fn(openai_errors)) } else { guarded }
    }
}

/// The parameters that a route says it takes: another one is refused, so that a mistyped
/// filter is not a list of everything.
#[derive(Clone)]
struct KnownQuery {
    names: Arc<[&'static str]>,
    prefixes: Arc<[&'static str]>,
    is_open: bool,
}

impl KnownQuery {
    fn of(doc: &Operation) -> Self {
        let named = |place: Place| {
            doc.parameters.iter().filter(move |one| one.place == place).map(|one| one.name).collect()
        };
        Self { names: named(Place::Query), prefixes: named(Place::QueryPrefix), is_open: doc.open_query }
    }
}

async fn only_known(State(known): State<KnownQuery>, request: Request, next: Next) -> Response {
    if known.is_open || request.uri().query().is_none() {
        return next.run(request).await;
    }
    let (mut parts, body) = request.into_parts();
    let params = Params::from_request_parts(&mut parts, &()).await;
    match params.and_then(|params| params.only(&known.names, &known.prefixes)) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => problem.into_response(),
    }
}
