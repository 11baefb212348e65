//! The routes: one line each, with the right that it asks for.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, post, put};
use http::Method;

use crate::app::App;
use crate::auth::{Right, require};
use crate::chat::openai;
use crate::observe::observe;
use crate::problem::{Code, Problem};

mod acts;
mod agents;
mod approvals;
mod approvals_decide;
mod batch;
mod conversations;
mod cron;
mod events;
mod get;
mod health;
mod keys;
mod list;
mod parked;
mod start;
mod start_body;
mod steps;
mod stream;
mod sweeps;

pub use start::{idempotency, outcome};

/// What handlers share.
pub type Shared = axum::extract::State<Arc<App>>;

/// All routes.
pub fn router(app: &Arc<App>) -> Router {
    let with = |right: Right, method: MethodRouter<Arc<App>>| {
        method.route_layer(from_fn_with_state((Arc::clone(app), right), require))
    };
    let openai = |right: Right, method: MethodRouter<Arc<App>>| {
        with(right, method).route_layer(from_fn(openai::openai_errors))
    };
    use Right::{Admin, Decide, Define, Read, Submit};
    Router::new()
        .route("/v1/executions", with(Submit, post(start::handle)).merge(with(Read, get(list::handle))))
        .route("/v1/executions/batch", with(Submit, post(batch::handle)))
        .route("/v1/executions/{id}", with(Read, get(get::handle)))
        .route("/v1/executions/{id}/steps", with(Read, get(steps::handle)))
        .route("/v1/executions/{id}/events", with(Read, get(events::handle)))
        .route("/v1/executions/{id}/stream", with(Read, get(stream::handle)))
        .route("/v1/executions/{id}/cancel", with(Submit, post(acts::cancel)))
        .route("/v1/executions/{id}/pause", with(Submit, post(acts::pause)))
        .route("/v1/executions/{id}/resume", with(Submit, post(acts::resume)))
        .route("/v1/executions/{id}/steps/{step}/resolve", with(Decide, post(acts::resolve)))
        .route("/v1/executions/{id}/approvals", with(Read, get(approvals::of_execution)))
        .route("/v1/executions/{id}/approvals/{tool_call_id}", with(Decide, post(approvals_decide::one)))
        .route("/v1/conversations/{id}", with(Read, get(conversations::get)))
        .route("/v1/conversations/{id}/stream", with(Read, get(conversations::stream)))
        .route("/v1/conversations/{id}/pending-approvals", with(Read, get(conversations::pending_approvals)))
        .route("/v1/chat/completions", openai(Submit, post(openai::handle)))
        .route("/v1/approvals", with(Read, get(approvals::inbox)))
        .route("/v1/approvals/decisions", with(Decide, post(approvals_decide::many)))
        .route("/v1/agents", with(Read, get(agents::list)))
        .route(
            "/v1/agents/{name}",
            with(Read, get(agents::get)).merge(with(Define, put(agents::put).delete(agents::delete))),
        )
        .route("/v1/agents/{name}/versions", with(Read, get(agents::versions)))
        .route("/v1/keys", with(Admin, get(keys::list).post(keys::create)))
        .route("/v1/keys/{id}", with(Admin, delete(keys::revoke)))
        .route("/v1/parked-messages", with(Admin, get(parked::list)))
        .route("/v1/sweeps", with(Admin, get(sweeps::list)))
        .route("/v1/sweeps/stale", with(Admin, post(sweeps::stale)))
        .route("/internal/cron/cleanup-stale-workflows", get(cron::handle).post(cron::handle))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(app), observe))
        .with_state(Arc::clone(app))
}

async fn no_such_route() -> Problem {
    Problem::new(Code::NoSuchRoute, "there is no route with this path")
}

async fn method_not_allowed(method: Method) -> Problem {
    let shown: String = method.as_str().chars().take(16).collect();
    Problem::new(Code::MethodNotAllowed, format!("this route has no method {shown}"))
}
