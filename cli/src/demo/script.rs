//! What the scripted model says: a pure function of the transcript that it is sent, as a
//! real model's answer is. It asks for the order, then (if that is wished) for the refund,
//! and tells what came of it.

use serde_json::{Value, json};

/// One answer: a text, and perhaps a tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// What it says.
    pub text: String,
    /// What it asks for.
    pub call: Option<Call>,
}

/// A tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Unique in the transcript.
    pub id: String,
    /// The tool.
    pub name: &'static str,
    /// A JSON object.
    pub arguments: Value,
}

/// The answer to a chat completion request.
pub fn turn(request: &Value) -> Turn {
    let seen = Transcript::read(request);
    let Some(order) = seen.order() else {
        return says("Which order is it? Tell me its number, such as: Refund order 42.");
    };
    let looked_up = seen.result("lookup_order");
    if looked_up.is_none() && seen.offers("lookup_order") {
        return seen.calls(
            format!("Let me look at order {order}."),
            "lookup_order",
            json!({"order_id": order}),
        );
    }
    if let Some(refund) = seen.result("refund") {
        return says(&told(&order, &refund));
    }
    if seen.wish.to_lowercase().contains("refund") && seen.offers("refund") {
        let amount = looked_up.as_ref().and_then(|found| found["total_cents"].as_i64()).unwrap_or(1_000);
        let text = format!("I will ask to refund {} for order {order}.", money(amount));
        return seen.calls(text, "refund", json!({"order_id": order, "amount_cents": amount}));
    }
    says(&described(&order, looked_up.as_ref()))
}

fn says(text: &str) -> Turn {
    Turn { text: text.to_owned(), call: None }
}

fn money(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// What became of the refund, from the tool message that carries it.
fn told(order: &str, refund: &Value) -> String {
    if refund["denied"] == Value::Bool(true) {
        return match refund["reason"].as_str() {
            Some(reason) => format!("The refund of order {order} was not approved: {reason}"),
            None => format!("The refund of order {order} was not approved."),
        };
    }
    match (refund["refund_id"].as_str(), refund["amount_cents"].as_i64()) {
        (Some(id), Some(amount)) => {
            format!("Done: {} were refunded for order {order} (refund {id}).", money(amount))
        }
        _ => format!("The refund of order {order} did not work: {refund}"),
    }
}

fn described(order: &str, found: Option<&Value>) -> String {
    match found.map(|found| (found["item"].as_str(), found["status"].as_str(), found["total_cents"].as_i64()))
    {
        Some((Some(item), Some(status), Some(total))) => {
            format!("Order {order}: {item}, {}, {status}.", money(total))
        }
        Some(_) => format!("I could not find order {order}."),
        None => format!("I cannot look up order {order}."),
    }
}

/// What the model can see of the conversation.
struct Transcript {
    wish: String,
    offered: Vec<String>,
    calls: usize,
    results: Vec<(String, Value)>,
}

impl Transcript {
    /// Only what follows the last wish counts: a conversation may have had others.
    fn read(request: &Value) -> Self {
        let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let last_wish = messages.iter().rposition(|message| message["role"] == "user");
        let wish = last_wish.map(|at| text(&messages[at]["content"])).unwrap_or_default();
        let since = last_wish.map_or(0, |at| at + 1);
        Self {
            wish,
            offered: names(&request["tools"]),
            calls: messages.iter().flat_map(asked).count(),
            results: results(&messages[since..]),
        }
    }

    /// The first number in the wish.
    fn order(&self) -> Option<String> {
        self.wish.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty()).map(str::to_owned)
    }

    fn offers(&self, tool: &str) -> bool {
        self.offered.iter().any(|name| name == tool)
    }

    fn result(&self, tool: &str) -> Option<Value> {
        self.results.iter().rev().find(|(name, _)| name == tool).map(|(_, result)| result.clone())
    }

    fn calls(&self, text: String, name: &'static str, arguments: Value) -> Turn {
        Turn { text, call: Some(Call { id: format!("call_{}", self.calls + 1), name, arguments }) }
    }
}

/// The content of a message: a text, or parts with texts.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

fn names(tools: &Value) -> Vec<String> {
    let tools = tools.as_array().map(Vec::as_slice).unwrap_or_default();
    tools.iter().filter_map(|tool| tool["function"]["name"].as_str()).map(str::to_owned).collect()
}

/// The calls of one message: id and tool.
fn asked(message: &Value) -> impl Iterator<Item = (&str, &str)> {
    let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    calls.iter().filter_map(|call| Some((call["id"].as_str()?, call["function"]["name"].as_str()?)))
}

/// Tool and result of each tool message.
fn results(messages: &[Value]) -> Vec<(String, Value)> {
    let calls: Vec<(&str, &str)> = messages.iter().flat_map(asked).collect();
    let tool_messages = messages.iter().filter(|message| message["role"] == "tool");
    tool_messages
        .filter_map(|message| {
            let id = message["tool_call_id"].as_str()?;
            let (_, tool) = calls.iter().find(|(known, _)| *known == id)?;
            let content = text(&message["content"]);
            Some(((*tool).to_owned(), serde_json::from_str(&content).unwrap_or(Value::String(content))))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(names: &[&str]) -> Value {
        names.iter().map(|name| json!({"type": "function", "function": {"name": name}})).collect()
    }

    fn request(messages: Vec<Value>) -> Value {
        json!({"messages": messages, "tools": tools(&["lookup_order", "refund"])})
    }

    fn user(text: &str) -> Value {
        json!({"role": "user", "content": text})
    }

    fn call(id: &str, name: &str) -> Value {
        json!({"role": "assistant", "content": null,
            "tool_calls": [{"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}}]})
    }

    fn result(id: &str, content: &Value) -> Value {
        json!({"role": "tool", "tool_call_id": id, "content": content.to_string()})
    }

    fn asks(turn: &Turn) -> (&str, &str) {
        turn.call.as_ref().map(|call| (call.id.as_str(), call.name)).expect("a call")
    }

    #[test]
    fn it_looks_up_then_asks_for_the_refund_then_tells() {
        let mut messages = vec![user("Refund order 42")];
        assert_eq!(asks(&turn(&request(messages.clone()))), ("call_1", "lookup_order"));
        messages.extend([
            call("call_1", "lookup_order"),
            result("call_1", &json!({"item": "a lamp", "total_cents": 5990})),
        ]);
        let second = turn(&request(messages.clone()));
        assert_eq!(asks(&second), ("call_2", "refund"));
        assert_eq!(second.call.expect("a call").arguments, json!({"order_id": "42", "amount_cents": 5990}));
        messages.extend([
            call("call_2", "refund"),
            result("call_2", &json!({"refund_id": "re_1", "amount_cents": 5990})),
        ]);
        let last = turn(&request(messages));
        assert_eq!(last, says("Done: 59.90 were refunded for order 42 (refund re_1)."));
    }

    #[test]
    fn it_tells_a_denial_with_its_reason_and_a_failure() {
        let with = |told: Value| {
            let messages = vec![
                user("refund 7"),
                call("call_1", "lookup_order"),
                result("call_1", &json!({"total_cents": 100})),
                call("call_2", "refund"),
                result("call_2", &told),
            ];
            turn(&request(messages)).text
        };
        assert_eq!(
            with(json!({"denied": true, "reason": "not this month"})),
            "The refund of order 7 was not approved: not this month"
        );
        assert_eq!(with(json!({"denied": true, "reason": null})), "The refund of order 7 was not approved.");
        assert!(with(json!({"error": "503", "type": "network"})).contains("did not work"));
    }

    #[test]
    fn it_answers_a_question_without_a_refund() {
        let messages = vec![
            user("Where is order 8?"),
            call("call_1", "lookup_order"),
            result("call_1", &json!({"item": "a lamp", "status": "shipped", "total_cents": 100})),
        ];
        assert_eq!(turn(&request(messages)), says("Order 8: a lamp, 1.00, shipped."));
        assert!(turn(&request(vec![user("hello")])).text.contains("Which order"));
    }

    #[test]
    fn a_later_wish_of_the_conversation_starts_anew() {
        let messages = vec![
            user("refund 7"),
            call("call_1", "refund"),
            result("call_1", &json!({"refund_id": "re_1", "amount_cents": 1})),
            user("refund 8"),
        ];
        assert_eq!(asks(&turn(&request(messages))), ("call_2", "lookup_order"));
    }

    #[test]
    fn it_asks_only_for_what_it_is_offered() {
        let request = json!({"messages": [user("Refund order 1")], "tools": tools(&["refund"])});
        assert_eq!(asks(&turn(&request)), ("call_1", "refund"));
    }
}
