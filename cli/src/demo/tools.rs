//! The shop's tools. A refund with an `Idempotency-Key` that was seen is answered as before
//! and paid once: what the class `keyed` asks of a tool.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

/// The refunds that were paid, by key.
type Paid = Arc<Mutex<HashMap<String, Value>>>;

/// The tools' routes.
pub fn routes() -> Router {
    Router::new()
        .route("/tools/lookup_order", post(lookup_order))
        .route("/tools/refund", post(refund))
        .with_state(Paid::default())
}

async fn lookup_order(Json(arguments): Json<Value>) -> Json<Value> {
    let order = arguments["order_id"].as_str().unwrap_or("").to_owned();
    // The same order always costs the same: its number decides.
    let number: i64 = order.parse().unwrap_or(0);
    let item = ["a desk lamp", "a kettle", "a chair"][usize::try_from(number.rem_euclid(3)).unwrap_or(0)];
    let total = 1_990 + number.rem_euclid(100) * 100;
    Json(json!({"order_id": order, "item": item, "status": "delivered", "total_cents": total}))
}

async fn refund(
    State(paid): State<Paid>,
    headers: HeaderMap,
    Json(arguments): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let Some(amount) = arguments["amount_cents"].as_i64() else {
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"error": "amount_cents is missing"})));
    };
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or("").to_owned();
    let mut paid = paid.lock().unwrap_or_else(PoisonError::into_inner);
    let next = format!("re_{}", paid.len() + 1);
    let receipt = json!({"refund_id": next, "order_id": arguments["order_id"], "amount_cents": amount, "status": "paid"});
    if key.is_empty() {
        return (StatusCode::OK, Json(receipt));
    }
    (StatusCode::OK, Json(paid.entry(key).or_insert(receipt).clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_key_is_paid_once() {
        let paid = Paid::default();
        let pay = async |key: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", key.parse().expect("a value"));
            let arguments = json!({"order_id": "42", "amount_cents": 5});
            refund(State(Arc::clone(&paid)), headers, Json(arguments)).await.1.0
        };
        let first = pay("a").await;
        assert_eq!(pay("a").await, first);
        assert_ne!(pay("b").await["refund_id"], first["refund_id"]);
        assert_eq!(paid.lock().expect("unharmed").len(), 2);
    }
}
