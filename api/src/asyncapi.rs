//! `/asyncapi.json` (3.0): the commands, replies and events of the broker, from the types that
//! read and write them. What it names is there: a test holds real messages against it.

use axum::extract::State;
use axum::response::Response;
use holdpoint_engine::entry::{
    ApprovalClosed, ApprovalDecided, ApprovalRequested, ExecutionCancelled, ExecutionCompleted,
    ExecutionFailed, ExecutionResumed, ExecutionStarted, ExecutionSuspended, WorkflowFailed,
};
use holdpoint_engine::lifecycle::{CLOUD_EVENT, CloudEvent, FINISHED, Finished, KINDS, Lifecycle};
use schemars::JsonSchema;
use schemars::generate::{Contract, SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use crate::openapi::Operation;
use crate::producers::{ACCEPTED, CancelBody, REJECTED};
use crate::routes::signals::SignalBody;
use crate::routes::tasks::{TaskCompleteBody, TaskFailBody, TaskHeartbeatBody};
use crate::routes::{DecisionItemBody, Shared, StartBody};
use crate::view;

const ABOUT: &str = "Commands from producers, the replies to them, and lifecycle events of executions and \
approvals. Every message is a CloudEvent in structured JSON. Delivery is at least once in both directions: \
repeat a command with the same `id` and `source` until `accepted` or `rejected` comes, and remember the ids \
of events. Tenant and project come from the key in `data.api_key` or in the header `authorization`.";

const EVENTS_ABOUT: &str = "A topic exchange: bind a queue of your own. Only projects that enabled it are \
told of; in order for each execution. Events that workflows emit leave as they are, with the kind `event` \
and the event `emitted`. A full stop in a tenant's name is written `%2E`.";

/// The schemas of what commands have as `data`.
const BODIES: [&str; 7] = [
    "StartBody",
    "DecisionItemBody",
    "CancelBody",
    "SignalBody",
    "TaskCompleteBody",
    "TaskFailBody",
    "TaskHeartbeatBody",
];

/// `GET /asyncapi.json`.
pub async fn handle(State(app): Shared) -> Response {
    view::ok(&document(&app.queue_prefix))
}

/// What it answers.
pub fn doc() -> Operation {
    Operation::new("asyncapi", "What travels by AMQP.").answer::<Value>(200, "AsyncAPI 3.0.")
}

/// The document of an installation whose broker names begin with this prefix.
pub fn document(prefix: &str) -> Value {
    let mut writer = Writer::new();
    let commands = writer.commands();
    let events = writer.events();
    let replies = writer.replies();
    let messages: Map<String, Value> =
        [&commands, &events, &replies].into_iter().flatten().map(|one| (one.name(), one.message())).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {"title": "Holdpoint", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT},
        "defaultContentType": CLOUD_EVENT,
        "channels": {
            "commands": {
                "address": format!("{prefix}.commands"),
                "description": "A topic exchange; any routing key.",
                "messages": named(&commands),
                "bindings": {"amqp": exchange(&format!("{prefix}.commands"))},
            },
            "replies": {
                "address": null,
                "description": "The queue in a command's `reply_to`, by the default exchange.",
                "messages": named(&replies),
            },
            "events": {
                "address": "{tenant}.{kind}.{event}",
                "description": EVENTS_ABOUT,
                "parameters": {
                    "tenant": {"description": "The tenant's name."},
                    "kind": {"enum": ["execution", "approval", "event"]},
                    "event": {"description": "What happened, such as `completed`."},
                },
                "messages": named(&events),
                "bindings": {"amqp": exchange(&format!("{prefix}.events"))},
            },
        },
        "operations": {
            "receiveCommand": {
                "action": "receive",
                "channel": {"$ref": "#/channels/commands"},
                "reply": {
                    "address": {"location": "$message.header#/reply_to"},
                    "channel": {"$ref": "#/channels/replies"},
                },
            },
            "sendEvent": {"action": "send", "channel": {"$ref": "#/channels/events"}},
        },
        "components": {"messages": messages, "schemas": writer.schemas()},
    })
}

fn exchange(name: &str) -> Value {
    json!({
        "is": "routingKey",
        "exchange": {"name": name, "type": "topic", "durable": true, "autoDelete": false},
        "bindingVersion": "0.3.0",
    })
}

fn named(messages: &[Message]) -> Map<String, Value> {
    let refer = |one: &Message| {
        let name = one.name();
        (name.clone(), json!({"$ref": format!("#/components/messages/{name}")}))
    };
    messages.iter().map(refer).collect()
}

/// A message by its type.
struct Message {
    kind: &'static str,
    payload: Value,
}

impl Message {
    /// The type without what every type has.
    fn name(&self) -> String {
        self.kind.trim_start_matches("holdpoint.").trim_end_matches(".v1").replace('.', "-")
    }

    fn message(&self) -> Value {
        json!({"name": self.kind, "contentType": CLOUD_EVENT, "payload": self.payload})
    }
}

struct Writer {
    taken: SchemaGenerator,
    told: SchemaGenerator,
}

fn generator(contract: Contract) -> SchemaGenerator {
    let with = |settings: &mut SchemaSettings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings.contract = contract;
    };
    SchemaSettings::draft07().with(with).into_generator()
}

impl Writer {
    fn new() -> Self {
        Self { taken: generator(Contract::Deserialize), told: generator(Contract::Serialize) }
    }

    /// All schemas that were referred to; a command's data may hold the credential.
    fn schemas(mut self) -> Map<String, Value> {
        let mut taken = self.taken.take_definitions(true);
        for body in BODIES {
            if let Some(properties) = taken.get_mut(body).and_then(|body| body["properties"].as_object_mut())
            {
                let about = "An API key, where the header `authorization` has none.";
                properties.insert("api_key".to_owned(), json!({"type": "string", "description": about}));
            }
        }
        let mut all = self.told.take_definitions(true);
        all.extend(taken);
        all
    }

    fn commands(&mut self) -> Vec<Message> {
        let start = self.taken.subschema_for::<StartBody>();
        let decide = self.taken.subschema_for::<DecisionItemBody>();
        let cancel = self.taken.subschema_for::<CancelBody>();
        let signal = self.taken.subschema_for::<SignalBody>();
        let complete = self.taken.subschema_for::<TaskCompleteBody>();
        let fail = self.taken.subschema_for::<TaskFailBody>();
        let heartbeat = self.taken.subschema_for::<TaskHeartbeatBody>();
        let mut all = Vec::new();
        for (kind, data) in [
            ("holdpoint.execution.start.v1", start),
            ("holdpoint.approval.decide.v1", decide),
            ("holdpoint.execution.cancel.v1", cancel),
            ("holdpoint.signal.deliver.v1", signal),
            ("holdpoint.task.complete.v1", complete),
            ("holdpoint.task.fail.v1", fail),
            ("holdpoint.task.heartbeat.v1", heartbeat),
        ] {
            let text = json!({"type": "string", "minLength": 1, "maxLength": 255});
            let mut properties = json!({
                "specversion": {"const": "1.0"}, "id": text, "source": text, "type": {"const": kind},
                "datacontenttype": {"const": "application/json"}, "data": data,
            });
            if kind.contains("start") {
                let about = "Told the end as well, beside `accepted`.";
                properties["reply"] = json!({"const": "finished", "description": about});
            }
            let required = ["specversion", "id", "source", "type", "data"];
            let payload = json!({"type": "object", "properties": properties, "required": required});
            all.push(Message { kind, payload });
        }
        all
    }

    fn replies(&mut self) -> Vec<Message> {
        let execution = json!({
            "type": "object", "properties": {"execution_id": {"type": "string"}}, "required": ["execution_id"],
        });
        let problem = json!({
            "type": "object",
            "properties": {"problem": {
                "type": "object", "description": "RFC 9457, as over HTTP.",
                "properties": {
                    "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
                    "detail": {"type": "string"}, "code": {"type": "string"},
                },
                "required": ["type", "title", "status", "detail", "code"],
            }},
            "required": ["problem"],
        });
        let finished = self.told.subschema_for::<CloudEvent<Finished>>();
        let of_kind = json!({"properties": {"type": {"const": FINISHED}}});
        vec![
            Message { kind: ACCEPTED, payload: reply(ACCEPTED, &execution) },
            Message { kind: REJECTED, payload: reply(REJECTED, &problem) },
            Message { kind: FINISHED, payload: json!({"allOf": [finished, of_kind]}) },
        ]
    }

    fn events(&mut self) -> Vec<Message> {
        let event = self.told.subschema_for::<CloudEvent<Lifecycle>>();
        let mut all = Vec::new();
        for kind in KINDS {
            let of_kind = json!({"properties": {
                "type": {"const": kind.event},
                "data": {"properties": {"type": {"const": kind.line}, "data": self.line_data(kind.line)}},
            }});
            all.push(Message { kind: kind.event, payload: json!({"allOf": [event, of_kind]}) });
        }
        all
    }

    /// The data of a line that is told outside.
    fn line_data(&mut self, line: &str) -> Value {
        fn of<T: JsonSchema>(writer: &mut Writer) -> Value {
            writer.told.subschema_for::<T>().into()
        }
        match line {
            "execution.started" => of::<ExecutionStarted>(self),
            "execution.suspended" => of::<ExecutionSuspended>(self),
            "execution.resumed" => of::<ExecutionResumed>(self),
            "execution.completed" => of::<ExecutionCompleted>(self),
            "execution.failed" => of::<ExecutionFailed>(self),
            "execution.cancelled" => of::<ExecutionCancelled>(self),
            "approval.requested" => of::<ApprovalRequested>(self),
            "approval.decided" => of::<ApprovalDecided>(self),
            "approval.closed" => of::<ApprovalClosed>(self),
            "workflow.failed" => of::<WorkflowFailed>(self),
            _ => json!(true),
        }
    }
}

fn reply(kind: &str, data: &Value) -> Value {
    json!({
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"}, "id": {"type": "string"}, "source": {"type": "string"},
            "type": {"const": kind}, "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"}, "data": data,
        },
        "required": ["specversion", "id", "source", "type", "time", "data"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document("holdpoint");
        let text = document.to_string();
        let refs = text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next());
        let mut count = 0;
        for pointer in refs {
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            count += 1;
        }
        assert!(count > 40, "{count}");
    }

    #[test]
    fn every_kind_of_line_has_its_data() {
        let mut writer = Writer::new();
        for kind in KINDS {
            assert_ne!(writer.line_data(kind.line), json!(true), "{}", kind.line);
        }
    }

    #[test]
    fn a_credential_may_stand_in_every_command() {
        let document = document("p");
        for body in BODIES {
            let schema = &document["components"]["schemas"][body];
            assert!(schema["properties"]["api_key"].is_object(), "{body}");
        }
        assert_eq!(document["channels"]["commands"]["address"], "p.commands");
    }
}
