//! The routes: one line each, with the right that it asks for and what it says of itself.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use http::Method;

use crate::app::App;
use crate::asyncapi;
use crate::auth::Right;
use crate::chat::ai_sdk;
use crate::chat::openai::{self, models};
use crate::console;
use crate::observe::observe;
use crate::openapi;
use crate::problem::{Code, Problem};

pub(crate) mod acts;
mod agents;
mod approvals;
pub(crate) mod approvals_decide;
mod audit;
mod batch;
mod conversations;
mod cron;
mod definitions;
mod diagnosis;
mod event_settings;
mod events;
mod export;
mod files;
mod get;
pub(crate) mod grants;
mod health;
mod keys;
mod limits;
mod list;
mod me;
mod parked;
mod policies;
pub(crate) mod retention;
mod route;
mod run_retry;
mod schedules;
pub(crate) mod signals;
pub(crate) mod start;
pub(crate) mod start_body;
pub(crate) mod starting;
mod steps;
mod stream;
mod sweeps;
pub(crate) mod tasks;
mod test_runs;
mod upload;
mod webhooks;
pub(crate) mod workflow_state;
mod workflows;

pub(crate) use approvals_decide::ItemBody as DecisionItemBody;
pub use approvals_decide::decide_plainly;
pub use route::Route;
pub use start::{idempotency, outcome};
pub(crate) use start_body::StartBody;

/// What handlers share.
pub type Shared = axum::extract::State<Arc<App>>;

/// All routes, a line each: method, path, right, handler, and what it says of itself.
pub fn table() -> Vec<Route> {
    use Right::{Admin, Decide, Define, Read, Submit};
    vec![
        Route::get("/v1/executions", Read, list::handle, list::doc),
        Route::post("/v1/executions", Submit, start::handle, start::doc),
        Route::post("/v1/executions/batch", Submit, batch::handle, batch::doc),
        Route::get("/v1/executions/{id}", Read, get::handle, get::doc),
        Route::get("/v1/executions/{id}/steps", Read, steps::handle, steps::doc),
        Route::get("/v1/executions/{id}/diagnosis", Read, diagnosis::handle, diagnosis::doc),
        Route::get("/v1/executions/{id}/events", Read, events::handle, events::doc),
        Route::get("/v1/executions/{id}/stream", Read, stream::handle, stream::doc),
        Route::post("/v1/executions/{id}/cancel", Submit, acts::cancel, acts::cancel_doc),
        Route::post("/v1/executions/{id}/pause", Submit, acts::pause, acts::pause_doc),
        Route::post("/v1/executions/{id}/resume", Submit, acts::resume, acts::resume_doc),
        Route::post("/v1/executions/{id}/retry", Submit, run_retry::handle, run_retry::doc),
        Route::post("/v1/executions/{id}/signals/{name}", Submit, signals::handle, signals::doc),
        Route::post("/v1/executions/{id}/steps/{step}/resolve", Decide, acts::resolve, acts::resolve_doc),
        Route::post(
            "/v1/executions/{id}/steps/{step}/complete",
            Submit,
            tasks::complete,
            tasks::complete_doc,
        ),
        Route::post("/v1/executions/{id}/steps/{step}/fail", Submit, tasks::fail, tasks::fail_doc),
        Route::post(
            "/v1/executions/{id}/steps/{step}/heartbeat",
            Submit,
            tasks::heartbeat,
            tasks::heartbeat_doc,
        ),
        Route::get(
            "/v1/executions/{id}/approvals",
            Read,
            approvals::of_execution,
            approvals::of_execution_doc,
        ),
        Route::get(
            "/v1/executions/{id}/approvals/{tool_call_id}",
            Read,
            approvals::of_call,
            approvals::of_call_doc,
        ),
        Route::post(
            "/v1/executions/{id}/approvals/{tool_call_id}",
            Decide,
            approvals_decide::one,
            approvals_decide::one_doc,
        ),
        Route::get("/v1/conversations/{id}", Read, conversations::get, conversations::get_doc),
        Route::get("/v1/conversations/{id}/stream", Read, conversations::stream, conversations::stream_doc),
        Route::get(
            "/v1/conversations/{id}/pending-approvals",
            Read,
            conversations::pending_approvals,
            conversations::pending_approvals_doc,
        ),
        Route::post("/v1/chat/completions", Submit, openai::handle, openai::doc).in_openais_shape(),
        Route::post("/api/chat", Read, ai_sdk::handle, ai_sdk::doc),
        Route::get("/api/chat/{id}/stream", Read, ai_sdk::resume, ai_sdk::resume_doc),
        Route::get("/v1/models", Read, models::list, models::list_doc).in_openais_shape(),
        Route::get("/v1/models/{id}", Read, models::get, models::get_doc).in_openais_shape(),
        Route::get("/v1/approvals", Read, approvals::inbox, approvals::inbox_doc),
        Route::post("/v1/approvals/decisions", Decide, approvals_decide::many, approvals_decide::many_doc),
        Route::post("/v1/policies/test", Define, policies::test, policies::test_doc),
        Route::get("/v1/grants", Read, grants::list, grants::list_doc),
        Route::post("/v1/grants", Decide, grants::create, grants::create_doc),
        Route::get("/v1/grants/{id}", Read, grants::get, grants::get_doc),
        Route::delete("/v1/grants/{id}", Decide, grants::revoke, grants::revoke_doc),
        Route::get("/v1/agents", Read, agents::list, agents::list_doc),
        Route::get("/v1/agents/{name}", Read, agents::get, agents::get_doc),
        Route::put("/v1/agents/{name}", Define, agents::put, agents::put_doc),
        Route::delete("/v1/agents/{name}", Define, agents::delete, agents::delete_doc),
        Route::get("/v1/agents/{name}/versions", Read, agents::versions, agents::versions_doc),
        Route::post("/v1/workflows/{name}/test-runs", Submit, test_runs::handle, test_runs::doc),
        Route::post("/v1/files", Submit, files::put, files::put_doc),
        Route::get("/v1/files/{id}", Read, files::get, files::get_doc),
        Route::get("/v1/files/{id}/info", Read, files::info, files::info_doc),
        Route::delete("/v1/files/{id}", Submit, files::delete, files::delete_doc),
        Route::post("/v1/workflows/{name}/pause", Define, workflow_state::pause, workflow_state::pause_doc),
        Route::post(
            "/v1/workflows/{name}/resume",
            Define,
            workflow_state::resume,
            workflow_state::resume_doc,
        ),
        Route::post(
            "/v1/workflows/{name}/archive",
            Define,
            workflow_state::archive,
            workflow_state::archive_doc,
        ),
        Route::get("/v1/attention", Read, workflow_state::attention, workflow_state::attention_doc),
        Route::post(
            "/v1/attention/{workflow}/acknowledge",
            Submit,
            workflow_state::acknowledge,
            workflow_state::acknowledge_doc,
        ),
        Route::get("/v1/schedules", Read, schedules::list, schedules::list_doc),
        Route::get("/v1/schedules/{name}", Read, schedules::get, schedules::get_doc),
        Route::put("/v1/schedules/{name}", Define, schedules::put, schedules::put_doc),
        Route::delete("/v1/schedules/{name}", Define, schedules::delete, schedules::delete_doc),
        Route::post("/v1/schedules/{name}/pause", Define, schedules::pause, schedules::pause_doc),
        Route::post("/v1/schedules/{name}/resume", Define, schedules::resume, schedules::resume_doc),
        Route::get("/v1/workflows", Read, workflows::list, workflows::list_doc),
        Route::get("/v1/workflows/{name}", Read, workflows::get, workflows::get_doc),
        Route::put("/v1/workflows/{name}", Define, workflows::put, workflows::put_doc),
        Route::delete("/v1/workflows/{name}", Define, workflows::delete, workflows::delete_doc),
        Route::get("/v1/workflows/{name}/versions", Read, workflows::versions, workflows::versions_doc),
        Route::get("/v1/me", Read, me::handle, me::doc),
        Route::get("/v1/keys", Admin, keys::list, keys::list_doc),
        Route::post("/v1/keys", Admin, keys::create, keys::create_doc),
        Route::delete("/v1/keys/{id}", Admin, keys::revoke, keys::revoke_doc),
        Route::get("/v1/audit", Admin, audit::list, audit::list_doc),
        Route::get("/v1/event-settings", Admin, event_settings::get, event_settings::get_doc),
        Route::put("/v1/event-settings", Admin, event_settings::put, event_settings::put_doc),
        Route::get("/v1/webhooks", Admin, webhooks::list, webhooks::list_doc),
        Route::post("/v1/webhooks", Admin, webhooks::create, webhooks::create_doc),
        Route::get("/v1/webhooks/{id}", Admin, webhooks::get, webhooks::get_doc),
        Route::put("/v1/webhooks/{id}", Admin, webhooks::put, webhooks::put_doc),
        Route::delete("/v1/webhooks/{id}", Admin, webhooks::delete, webhooks::delete_doc),
        Route::post("/v1/webhooks/{id}/rotate", Admin, webhooks::rotate, webhooks::rotate_doc),
        Route::post("/v1/webhooks/{id}/enable", Admin, webhooks::enable, webhooks::enable_doc),
        Route::post("/v1/webhooks/{id}/test", Admin, webhooks::test, webhooks::test_doc),
        Route::get("/v1/webhooks/{id}/deliveries", Admin, webhooks::deliveries, webhooks::deliveries_doc),
        Route::get("/v1/limits", Read, limits::list, limits::list_doc),
        Route::get("/v1/limits/{kind}/{name}", Read, limits::get, limits::get_doc),
        Route::put("/v1/limits/{kind}/{name}", Admin, limits::put, limits::put_doc),
        Route::delete("/v1/limits/{kind}/{name}", Admin, limits::delete, limits::delete_doc),
        Route::get("/v1/parked-messages", Admin, parked::list, parked::list_doc),
        Route::get("/v1/parked-messages/{id}", Admin, parked::get, parked::get_doc),
        Route::delete("/v1/parked-messages/{id}", Admin, parked::discard, parked::discard_doc),
        Route::post("/v1/parked-messages/{id}/redrive", Admin, parked::redrive, parked::redrive_doc),
        Route::get("/v1/sweeps", Admin, sweeps::list, sweeps::list_doc),
        Route::post("/v1/sweeps/stale", Admin, sweeps::stale, sweeps::stale_doc),
        Route::get("/internal/cron/cleanup-stale-workflows", None, cron::handle, cron::get_doc),
        Route::post("/internal/cron/cleanup-stale-workflows", None, cron::handle, cron::post_doc),
        Route::post("/v1/sweeps/retention", Admin, sweeps::retention, sweeps::retention_doc),
        Route::get("/v1/export/executions", Admin, export::handle, export::doc),
        Route::get("/v1/retention", Admin, retention::get, retention::get_doc),
        Route::put("/v1/retention", Admin, retention::put, retention::put_doc),
        Route::post("/v1/retention/exported", Admin, retention::exported, retention::exported_doc),
        Route::get("/healthz", None, health::alive, health::alive_doc),
        Route::get("/readyz", None, health::ready, health::ready_doc),
        Route::get("/metrics", None, health::metrics, health::metrics_doc),
        Route::get("/asyncapi.json", None, asyncapi::handle, asyncapi::doc),
        Route::get("/openapi.json", None, openapi::handle, openapi::doc),
    ]
}

/// The table as a router.
pub fn router(app: &Arc<App>) -> Router {
    let add = |router: Router<Arc<App>>, route: Route| router.route(route.path, route.guarded(app));
    table()
        .into_iter()
        .fold(console::router(), add)
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
