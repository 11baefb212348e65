use serde_json::json;

use super::*;
use crate::workflow::document::{DurationValue, Then, Work};
use crate::workflow::expression::Template;
use crate::workflow::jq::Jq;

/// A document with these tasks, which begin in line 3.
fn with_tasks(tasks: &str) -> String {
    let about = "document: {dsl: 1.0.3, namespace: test, name: flow, version: 0.1.0}";
    format!("{about}\ndo:\n{tasks}")
}

fn read_tasks(tasks: &str) -> Workflow {
    Workflow::read(&with_tasks(tasks), 1, &Jq).unwrap_or_else(|errors| panic!("{tasks}: {errors:?}"))
}

#[test]
fn a_task_has_its_place_its_flow_and_its_work() {
    let workflow = read_tasks(
        "- first:\n    if: .go\n    set: {a: 1, b: '${ .x }'}\n    then: third\n\
         - second:\n    wait: {seconds: 30}\n    then: end\n\
         - third:\n    for: {each: pet, in: .pets}\n    do:\n    - one:\n        set: {it: '${ $pet + $index }'}\n",
    );
    let first = &workflow.tasks[0];
    assert_eq!((first.pointer.as_str(), first.then), ("/do/0/first", Then::To(2)));
    let Work::Set(Template::Object(members)) = &first.work else { panic!("{:?}", first.work) };
    assert_eq!(members[0], ("a".to_owned(), Template::Constant(json!(1))));
    let Work::Wait(DurationValue::Fixed(length)) = &workflow.tasks[1].work else { panic!("no wait") };
    assert_eq!(length.as_secs(), 30);
    let nested: Vec<&str> = workflow.by_pointer.keys().map(String::as_str).collect();
    assert_eq!(nested, ["/do/0/first", "/do/1/second", "/do/2/third", "/do/2/third/do/0/one"]);
    assert_eq!(workflow.definition.pointer("/do/0/first/then"), Some(&json!("third")));
}

/// What is told of a document that is wrong: line, column, pointer, message.
fn told(document: &str) -> Vec<(usize, usize, String, String)> {
    let errors = Workflow::read(document, 1, &Jq).expect_err(document);
    errors.into_iter().map(|error| (error.line, error.column, error.pointer, error.message)).collect()
}

type Wrong = (&'static str, usize, usize, &'static str, &'static str);

/// Each document has that one error.
fn all_are_refused(table: &[Wrong], document: impl Fn(&str) -> String) {
    let mut differences = Vec::new();
    for (text, line, column, pointer, message) in table {
        let found = told(&document(text));
        let fits = |found: &[(usize, usize, String, String)]| match found {
            [(l, c, p, m)] => (l, c, p.as_str()) == (line, column, *pointer) && m.contains(message),
            _ => false,
        };
        if !fits(&found) {
            differences.push(format!(
                "{text}\n  expected {:?}\n  found {found:?}",
                (line, column, pointer, message)
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn tasks_that_are_wrong_say_where_and_what_is_expected() {
    all_are_refused(
        &[
            ("- a:\n    sett: {x: 1}\n", 4, 5, "/do/0/a/sett", "did you mean `set`?"),
            (
                "- a:\n    set: {x: 1}\n    outptu: {as: .}\n",
                5,
                5,
                "/do/0/a/outptu",
                "did you mean `output`?",
            ),
            (
                "- a:\n    set: {x: 1}\n    colour: red\n",
                5,
                5,
                "/do/0/a/colour",
                "a task that has `set` has `set`, `if`",
            ),
            ("- a: {}\n", 3, 6, "/do/0/a", "a task has `for`, `call`"),
            ("- a: {set: {x: 1}, wait: PT1S}\n", 3, 6, "/do/0/a", "`set` and `wait`: it does one thing"),
            ("- a: 5\n", 3, 6, "/do/0/a", "the number 5 does nothing"),
            ("- a: {set: {x: 1}}\n  b: {set: {x: 1}}\n", 4, 3, "/do/0/b", "a second name, `b`, in one item"),
            ("- a: {set: {x: 1}}\n- a: {set: {x: 1}}\n", 4, 3, "/do/1/a", "a second task `a` in this list"),
            ("- end: {set: {x: 1}}\n", 3, 3, "/do/0/end", "`end` is a word of `then`"),
            (
                "- a: {set: {x: 1}, then: secnod}\n- second: {set: {x: 1}}\n",
                3,
                26,
                "/do/0/a/then",
                "did you mean `second`?",
            ),
            (
                "- a: {do: [{b: {set: {x: 1}, then: a}}]}\n",
                3,
                36,
                "/do/0/a/do/0/b/then",
                "no task `a` in this list",
            ),
            ("- a: {set: {}}\n", 3, 12, "/do/0/a/set", "an object with members"),
            ("- a: {set: .x}\n", 3, 12, "/do/0/a/set", "one expression `${ … }`"),
            ("- a: {set: {x: 'Hi ${ .name }!'}}\n", 3, 16, "/do/0/a/set/x", "has an expression within it"),
            ("- a: {set: {x: '${ }'}}\n", 3, 16, "/do/0/a/set/x", "an empty expression"),
            ("- a: {set: {x: '${ .a + }'}}\n", 3, 16, "/do/0/a/set/x", "the expression `.a +`"),
            ("- a: {wait: 5s}\n", 3, 13, "/do/0/a/wait", "no ISO 8601 duration"),
            ("- a: {wait: {second: 5}}\n", 3, 14, "/do/0/a/wait/second", "did you mean `seconds`?"),
            (
                "- a: {wait: {seconds: 1.5}}\n",
                3,
                23,
                "/do/0/a/wait/seconds",
                "the number 1.5: expected a whole number",
            ),
            (
                "- a: {set: {x: 1}, timeout: short}\n",
                3,
                29,
                "/do/0/a/timeout",
                "no `short` in `use.timeouts`",
            ),
            ("- a: {switch: []}\n", 3, 15, "/do/0/a/switch", "a switch without cases"),
            ("- a: {switch: [{x: {when: .a}}]}\n", 3, 20, "/do/0/a/switch/0/x", "`then` is missing"),
            (
                "- a:\n    switch: [{x: {then: end}}, {y: {then: end}}]\n",
                4,
                36,
                "/do/0/a/switch/1/y",
                "only one may be the default",
            ),
            ("- a: {for: {in: .x, each: $i}, do: []}\n", 3, 27, "/do/0/a/for/each", "without `$`"),
            (
                "- a: {for: {in: .x, each: input}, do: []}\n",
                3,
                27,
                "/do/0/a/for/each",
                "$input has a meaning",
            ),
            ("- a: {for: {in: .x, each: i, at: i}, do: []}\n", 3, 12, "/do/0/a/for", "the same variable"),
            ("- a: {for: {each: x}, do: []}\n", 3, 12, "/do/0/a/for", "`in` is missing"),
            ("- a: {fork: {branches: []}}\n", 3, 24, "/do/0/a/fork/branches", "a fork without branches"),
            (
                "- a: {fork: {compete: yes, branches: [{b: {set: {x: 1}}}]}}\n",
                3,
                23,
                "/do/0/a/fork/compete",
                "expected `true` or `false`",
            ),
            ("- a: {try: []}\n", 3, 6, "/do/0/a", "`catch` is missing"),
            (
                "- a: {try: [], catch: {retry: twice}}\n",
                3,
                31,
                "/do/0/a/catch/retry",
                "no `twice` in `use.retries`",
            ),
            (
                "- a: {try: [], catch: {retry: {backoff: {cubic: {}}}}}\n",
                3,
                42,
                "/do/0/a/catch/retry/backoff/cubic",
                "`constant`, `linear` and `exponential`",
            ),
            (
                "- a: {try: [], catch: {errors: {with: {status: '404'}}}}\n",
                3,
                48,
                "/do/0/a/catch/errors/with/status",
                "expected a whole number, 100 to 599",
            ),
            (
                "- a: {raise: {error: {type: oops, status: 400}}}\n",
                3,
                29,
                "/do/0/a/raise/error/type",
                "expected a URI",
            ),
            (
                "- a: {raise: {error: notFound}}\n",
                3,
                22,
                "/do/0/a/raise/error",
                "no `notFound` in `use.errors`",
            ),
            (
                "- a: {listen: {to: {one: {with: {}}}}}\n",
                3,
                33,
                "/do/0/a/listen/to/one/with",
                "an empty filter",
            ),
            (
                "- a: {listen: {to: {all: [], any: []}}}\n",
                3,
                20,
                "/do/0/a/listen/to",
                "one of `one`, `all` and `any`",
            ),
            (
                "- a: {listen: {to: {one: {with: {type: x}}, until: .a}}}\n",
                3,
                45,
                "/do/0/a/listen/to/until",
                "`until` goes with `any`",
            ),
            (
                "- a: {listen: {to: {any: []}, read: body}}\n",
                3,
                37,
                "/do/0/a/listen/read",
                "expected `data`, `envelope` or `raw`",
            ),
            (
                "- a: {emit: {event: {with: {type: x}}}}\n",
                3,
                28,
                "/do/0/a/emit/event/with",
                "`source` is missing",
            ),
            (
                "- a: {set: {x: 1}, input: {schema: {resource: {endpoint: 'https://x/'}}}}\n",
                3,
                37,
                "/do/0/a/input/schema/resource",
                "write the schema into `document`",
            ),
            (
                "- a: {set: {x: 1}, input: {schema: {document: {type: strng}}}}\n",
                3,
                47,
                "/do/0/a/input/schema/document",
                "no JSON schema",
            ),
            (
                "- a: {set: {x: 1}, output: {schema: {document: {$ref: 'https://x/y'}}}}\n",
                3,
                55,
                "/do/0/a/output/schema/document/$ref",
                "leads out of the schema",
            ),
            (
                "- a: {set: {x: 1}, metadata: {holdpoint: {effect: keyed}}}\n",
                3,
                31,
                "/do/0/a/metadata/holdpoint",
                "this task calls nothing",
            ),
        ],
        with_tasks,
    );
}

#[test]
fn calls_that_are_wrong_or_not_carried_say_why() {
    all_are_refused(
        &[
            ("- a: {call: http}\n", 3, 6, "/do/0/a", "`with` is missing"),
            (
                "- a: {call: http, with: {metod: get, method: get, endpoint: 'https://x/'}}\n",
                3,
                26,
                "/do/0/a/with/metod",
                "did you mean `method`?",
            ),
            (
                "- a: {call: http, with: {method: get, endpoint: 'ftp://x/'}}\n",
                3,
                49,
                "/do/0/a/with/endpoint",
                "expected an http or https URI",
            ),
            (
                "- a: {call: http, with: {method: get, endpoint: 'https://u:p@x/'}}\n",
                3,
                49,
                "/do/0/a/with/endpoint",
                "name a secret",
            ),
            (
                "- a: {call: http, with: {method: get, endpoint: 'https://x/{+a}'}}\n",
                3,
                49,
                "/do/0/a/with/endpoint",
                "only a plain `{name}`",
            ),
            (
                "- a: {call: http, with: {method: 5, endpoint: 'https://x/'}}\n",
                3,
                34,
                "/do/0/a/with/method",
                "the number 5: expected a text",
            ),
            (
                "- a: {call: http, with: {method: get, endpoint: 'https://x/', headers: {Authorization: Bearer abc}}}\n",
                3,
                88,
                "/do/0/a/with/headers/Authorization",
                "a credential in plain text",
            ),
            (
                "- a: {call: http, with: {method: get, endpoint: 'https://x/', output: json}}\n",
                3,
                71,
                "/do/0/a/with/output",
                "expected `content`, `response` or `raw`",
            ),
            (
                "- a: {call: http, with: {method: get, endpoint: {uri: 'https://x/', authentication: {use: mine}}}}\n",
                3,
                91,
                "/do/0/a/with/endpoint/authentication/use",
                "no `mine` in `use.authentications`",
            ),
            (
                "- a: {call: http, with: {method: get, endpoint: {uri: 'https://x/', authentication: {digest: {use: s}}}}}\n",
                3,
                86,
                "/do/0/a/with/endpoint/authentication/digest",
                "`digest` authentication is not carried",
            ),
            (
                "- a: {call: http, with: {method: get, endpoint: {uri: 'https://x/', authentication: {bearer: {token: '${ $secrets.x }'}}}}}\n",
                3,
                102,
                "/do/0/a/with/endpoint/authentication/bearer/token",
                "no `x` in `use.secrets`",
            ),
            (
                "- a: {call: http, with: {method: get, endpoint: 'https://x/'}, metadata: {holdpoint: {effect: twice}}}\n",
                3,
                95,
                "/do/0/a/metadata/holdpoint/effect",
                "expected `idempotent`, `keyed` or `at_most_once`",
            ),
            (
                "- a: {call: http, with: {method: get, endpoint: 'https://x/'}, metadata: {holdpoint: {retry: {tries: 21}}}}\n",
                3,
                94,
                "/do/0/a/metadata/holdpoint/retry",
                "`tries` is 21: it may be 1 to 20",
            ),
            ("- a: {call: grpc, with: {}}\n", 3, 13, "/do/0/a/call", "`call: grpc` is not carried"),
            ("- a: {call: asyncapi, with: {}}\n", 3, 13, "/do/0/a/call", "`call: asyncapi` is not carried"),
            ("- a: {call: htpp, with: {}}\n", 3, 13, "/do/0/a/call", "did you mean `http`?"),
            (
                "- a: {call: 'https://x/function.yaml'}\n",
                3,
                13,
                "/do/0/a/call",
                "functions by URL are not carried",
            ),
            ("- a: {call: 'log:1.0.0@global'}\n", 3, 13, "/do/0/a/call", "no catalog but `default`"),
            ("- a: {call: 'approval:2.0.0@default'}\n", 3, 13, "/do/0/a/call", "not in the default catalog"),
            (
                "- a: {call: 'approval:1.0.0@default', with: {titel: x, title: y}}\n",
                3,
                46,
                "/do/0/a/with/titel",
                "did you mean `title`?",
            ),
            (
                "- a: {call: 'agent:1.0.0@default', with: {agent: a b}}\n",
                3,
                50,
                "/do/0/a/with/agent",
                "`a b` is not a name",
            ),
            (
                "- a: {call: 'task:1.0.0@default', with: {queue: q, heartbeat: PT0.1S}}\n",
                3,
                63,
                "/do/0/a/with/heartbeat",
                "at least one second",
            ),
            (
                "- a: {call: 'task:1.0.0@default', with: {queue: '${ .q }'}}\n",
                3,
                49,
                "/do/0/a/with/queue",
                "is not a name",
            ),
            (
                "- a: {call: 'task:1.0.0@default', with: {queue: ''}}\n",
                3,
                49,
                "/do/0/a/with/queue",
                "an empty text",
            ),
            (
                "- a: {call: 'task:1.0.0@default', with: {queue: holdpoint.commands}}\n",
                3,
                49,
                "/do/0/a/with/queue",
                "begin with `holdpoint.` are for queues of Holdpoint",
            ),
            (
                "- a: {call: 'task:1.0.0@default', with: {queue: amq.gen-1}}\n",
                3,
                49,
                "/do/0/a/with/queue",
                "begin with `amq.` are for queues of the broker",
            ),
            (
                "- a: {call: mcp, with: {method: tools/call, transport: {stdio: {command: npx}}}}\n",
                3,
                57,
                "/do/0/a/with/transport/stdio",
                "MCP over stdio is not carried",
            ),
            (
                "- a: {call: mcp, with: {method: tools/cal, transport: {http: {endpoint: 'https://x/'}}}}\n",
                3,
                33,
                "/do/0/a/with/method",
                "did you mean `tools/call`?",
            ),
            (
                "- a: {call: openapi, with: {operationId: x}}\n",
                3,
                28,
                "/do/0/a/with",
                "`document` is missing",
            ),
            (
                "- a: {run: {shell: {command: ls}}}\n",
                3,
                13,
                "/do/0/a/run/shell",
                "`run: shell` is not carried",
            ),
            (
                "- a: {run: {script: {language: js, code: x}}}\n",
                3,
                13,
                "/do/0/a/run/script",
                "`run: script` is not carried",
            ),
            (
                "- a: {run: {container: {image: x}}}\n",
                3,
                13,
                "/do/0/a/run/container",
                "`run: container` is not carried",
            ),
            (
                "- a: {run: {workflow: {namespace: n, name: x, version: newest}}}\n",
                3,
                56,
                "/do/0/a/run/workflow/version",
                "expected `latest` or a semantic version",
            ),
        ],
        with_tasks,
    );
}

#[test]
fn an_expression_sees_the_variables_of_its_place_and_no_others() {
    for seen in [
        "- a: {if: $context.x, set: {x: 1}, input: {from: $workflow.input}}\n",
        "- a: {set: {x: '${ [$input, $task.name, $runtime, $context] }'}}\n",
        "- a: {set: {x: 1}, output: {as: '$input + .'}, export: {as: '$context + $output'}}\n",
        "- a: {for: {in: .x}, while: '$index < 3', do: [{b: {set: {x: '${ $item }'}}}]}\n",
        "- a: {try: [], catch: {as: err, when: $err.status == 404, do: [{b: {set: {x: '${ $err }'}}}]}}\n",
        "- a: {try: [], catch: {retry: {when: $error.status == 503}}}\n",
        "- a: {listen: {to: {any: []}}, foreach: {item: e, do: [{b: {set: {x: '${ $e }'}}}]}}\n",
    ] {
        read_tasks(seen);
    }
    all_are_refused(
        &[
            (
                "- a: {if: $input.x, set: {x: 1}}\n",
                3,
                11,
                "/do/0/a/if",
                "its variables here are $context, $task, $workflow, $runtime",
            ),
            ("- a: {set: {x: '${ $output }'}}\n", 3, 16, "/do/0/a/set/x", "the expression `$output`"),
            (
                "- a: {set: {x: 1}, output: {as: $output}}\n",
                3,
                33,
                "/do/0/a/output/as",
                "the expression `$output`",
            ),
            ("- a: {set: {x: '${ $item }'}}\n", 3, 16, "/do/0/a/set/x", "the expression `$item`"),
            ("- a: {for: {in: $item}, do: []}\n", 3, 17, "/do/0/a/for/in", "the expression `$item`"),
            (
                "- a: {try: [{b: {set: {x: '${ $error }'}}}], catch: {}}\n",
                3,
                27,
                "/do/0/a/try/0/b/set/x",
                "the expression `$error`",
            ),
            (
                "- a: {set: {x: '${ $secrets.key }'}}\n",
                3,
                16,
                "/do/0/a/set/x",
                "a secret is given to `authentication` alone",
            ),
            (
                "- a: {set: {x: '${ $authorization }'}}\n",
                3,
                16,
                "/do/0/a/set/x",
                "the expression `$authorization`",
            ),
            ("- a: {set: {x: '${ env }'}}\n", 3, 16, "/do/0/a/set/x", "the expression `env`"),
        ],
        with_tasks,
    );
}

#[test]
fn a_document_says_who_it_is_and_how_it_runs() {
    let about = |extra: &str| {
        format!("do: []\ndocument:\n  dsl: 1.0.3\n  namespace: test\n  name: flow\n  version: 0.1.0\n{extra}")
    };
    let text = about(
        "  title: T\n  tags: {a: b, n: 1}\n  metadata:\n    team: x\n    holdpoint: {concurrency: 1, retries: 0, overlap: queue, catch_up: {window: 10m, limit: 3}, time_zone: Europe/Vienna}\nschedule: {cron: 0 7 * * 1}\ntimeout: {after: PT1H}\n",
    );
    let workflow = Workflow::read(&text, 7, &Jq).expect("valid");
    assert_eq!(
        (workflow.version, workflow.about.name.as_str(), workflow.about.version.as_str()),
        (7, "flow", "0.1.0")
    );
    assert!(workflow.settings.one_at_a_time && workflow.settings.retries == 0);
    let cron = crate::workflow::document::Schedule::Cron {
        expression: "0 7 * * 1".to_owned(),
        time_zone: "Europe/Vienna".to_owned(),
    };
    assert_eq!(workflow.schedule, Some(cron));
    all_are_refused(
        &[
            ("  title: 5\n", 7, 10, "/document/title", "the number 5: expected a text"),
            ("  nmae: x\n", 7, 3, "/document/nmae", "did you mean `name`?"),
            (
                "  metadata: {holdpoint: {concurrency: 2}}\n",
                7,
                39,
                "/document/metadata/holdpoint/concurrency",
                "a whole number, 1 to 1",
            ),
            (
                "  metadata: {holdpoint: {retries: 21}}\n",
                7,
                35,
                "/document/metadata/holdpoint/retries",
                "0 to 20",
            ),
            (
                "  metadata: {holdpoint: {overlap: wait}}\n",
                7,
                35,
                "/document/metadata/holdpoint/overlap",
                "expected `skip`, `queue` or `cancel`",
            ),
            (
                "  metadata: {holdpoint: {time_zone: Wien}}\n",
                7,
                37,
                "/document/metadata/holdpoint/time_zone",
                "Wien",
            ),
            (
                "  metadata: {holdpoint: {retrys: 1}}\n",
                7,
                26,
                "/document/metadata/holdpoint/retrys",
                "did you mean `retries`?",
            ),
            ("schedule: {cron: never}\n", 7, 18, "/schedule/cron", "never"),
            ("schedule: {every: PT0.5S}\n", 7, 19, "/schedule/every", "1s"),
            (
                "schedule: {on: {one: {with: {type: x}}}}\n",
                7,
                12,
                "/schedule/on",
                "`schedule.on` is not carried",
            ),
            ("schedule: {every: PT1M, cron: '* * * * *'}\n", 7, 11, "/schedule", "this has 2"),
            ("evaluate: {language: javascript}\n", 7, 22, "/evaluate/language", "it may be `jq`"),
            ("evaluate: {mode: loose}\n", 7, 18, "/evaluate/mode", "it may be `strict`"),
            ("outputs: {}\n", 7, 1, "/outputs", "did you mean `output`?"),
            ("use: {extensions: []}\n", 7, 7, "/use/extensions", "extensions are not carried"),
            (
                "use: {catalogs: {x: {endpoint: 'https://x/'}}}\n",
                7,
                7,
                "/use/catalogs",
                "catalogs are not carried",
            ),
            ("use: {secrets: [a b]}\n", 7, 17, "/use/secrets/0", "is not a name"),
            (
                "use: {timeouts: {short: {after: soon}}}\n",
                7,
                33,
                "/use/timeouts/short/after",
                "no ISO 8601 duration",
            ),
            ("use: {errors: {e: {type: 'x:y'}}}\n", 7, 19, "/use/errors/e", "`status` is missing"),
            ("use: {retries: {r: {delay: {}}}}\n", 7, 28, "/use/retries/r/delay", "an empty duration"),
            (
                "use: {authentications: {a: {basic: {username: u, password: 1234}}}}\n",
                7,
                60,
                "/use/authentications/a/basic/password",
                "a credential in plain text",
            ),
            (
                "use: {functions: {f: {call: f}}}\n",
                7,
                29,
                "/use/functions/f/call",
                "a function that calls itself: f → f",
            ),
        ],
        about,
    );
    all_are_refused(
        &[
            (
                "1.0.3, namespace: test, name: flow, version: 1.0",
                1,
                62,
                "/document/version",
                "the number 1.0: expected a text",
            ),
            (
                "1.0.3, namespace: test, name: flow, version: 1.0.x",
                1,
                62,
                "/document/version",
                "no semantic version",
            ),
            ("0.9.0, namespace: test, name: flow, version: 1.0.0", 1, 17, "/document/dsl", "expected 1.0.x"),
            (
                "1.0.3, namespace: test, name: my flow, version: 1.0.0",
                1,
                47,
                "/document/name",
                "1 to 63 letters, digits or `-`",
            ),
            ("1.0.3, namespace: test, version: 1.0.0", 1, 11, "/document", "`name` is missing"),
        ],
        |text| format!("document: {{dsl: {text}}}\ndo: []\n"),
    );
}

#[test]
fn what_is_secret_stands_in_no_message() {
    let text = with_tasks(
        "- a: {call: http, with: {method: get, endpoint: {uri: 'https://x/', authentication: {basic: {username: u, password: hunter2}}}}}\n\
         - b: {call: http, with: {method: get, endpoint: 'https://u:hunter2@x/', headers: {authorization: Basic hunter2}}}\n",
    );
    let errors = told(&text);
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(!format!("{errors:?}").contains("hunter2"), "{errors:?}");
}

#[test]
fn errors_are_many_and_bounded_and_in_order() {
    let tasks: String = (0..80).map(|index| format!("- t{index}: {{wait: never}}\n")).collect();
    let errors = told(&with_tasks(&tasks));
    assert_eq!(errors.len(), MAX_ERRORS);
    assert!(errors.is_sorted_by_key(|error| error.0));
    let twice = told(&with_tasks("- a: {set: {x: '${ $no }'}}\n- b: {wait: soon}\n"));
    assert_eq!(twice.iter().map(|error| error.0).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn what_is_reused_is_put_in_its_place() {
    let text = "document: {dsl: 1.0.3, namespace: test, name: flow, version: 0.1.0}\n\
        use:\n  secrets: [token, account]\n  timeouts: {short: {after: PT1S}}\n  errors: {gone: {type: 'https://x/gone', status: 410}}\n\
        \x20 retries: {twice: {delay: PT1S, backoff: {exponential: {}}, limit: {attempt: {count: 2}}}}\n\
        \x20 authentications:\n    mine: {bearer: {token: '${ $secrets.token }'}}\n    theirs: {basic: {use: account}}\n\
        \x20 functions: {get: {call: http, with: {method: get, endpoint: {uri: 'https://x/{id}', authentication: {use: mine}}}}}\n\
        do:\n- a: {call: get, with: {id: 1}, timeout: short}\n- b: {raise: {error: gone}}\n\
        - c: {try: [{d: {call: get}}, {e: {call: http, with: {method: post, endpoint: 'https://x/'}}}], catch: {retry: twice}}\n\
        - f: {call: http, with: {method: post, endpoint: {uri: 'https://x/', authentication: {use: theirs}}}}\n";
    let workflow = Workflow::read(text, 1, &Jq).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(workflow.secrets, ["token", "account"]);
    let Work::Function { task, with: Some(Template::Constant(with)) } = &workflow.tasks[0].work else {
        panic!("{:?}", workflow.tasks[0].work)
    };
    assert_eq!((task.pointer.as_str(), with), ("/use/functions/get", &json!({"id": 1})));
    assert!(workflow.tasks[0].timeout.is_some() && workflow.by_pointer.contains_key("/use/functions/get"));
    let Work::Try { body, catch } = &workflow.tasks[2].work else { panic!("no try") };
    assert_eq!(catch.retry.as_ref().and_then(|retry| retry.attempts), Some(2));
    let Work::Http(call) = &body[1].work else { panic!("no call") };
    assert_eq!(call.performance.retry.tries, 1, "the author retries");
    let Work::Http(call) = &workflow.tasks[3].work else { panic!("no call") };
    assert_eq!(call.performance.retry.tries, 4);
    let reloaded = Workflow::load(text, 1).expect("loaded without an evaluator");
    assert_eq!(reloaded.by_pointer.len(), workflow.by_pointer.len());
}

#[test]
fn functions_nest_only_so_deep() {
    let chain = |count: usize| {
        let functions: String =
            (0..count).map(|index| format!("    f{index}: {{call: f{}}}\n", index + 1)).collect();
        format!(
            "document: {{dsl: 1.0.3, namespace: test, name: flow, version: 0.1.0}}\nuse:\n  functions:\n{functions}    f{count}: {{set: {{x: 1}}}}\ndo: []\n"
        )
    };
    assert!(Workflow::read(&chain(10), 1, &Jq).is_ok());
    let errors = told(&chain(5_000));
    assert!(errors.iter().all(|error| error.3.contains("16 deep at most")), "{errors:?}");
}

#[test]
fn children_are_named_for_pinning() {
    let workflow = read_tasks(
        "- a: {run: {workflow: {namespace: n, name: other, version: 1.2.0, input: {x: '${ .x }'}}, await: false}}\n\
         - b: {call: 'agent:1.0.0@default', with: {agent: support, version: 3, input: Hi}}\n",
    );
    let Work::Child(child) = &workflow.tasks[0].work else { panic!("no child") };
    assert_eq!((child.name.as_str(), child.label.as_deref(), child.wait), ("other", Some("1.2.0"), false));
    let names: Vec<_> =
        workflow.refers.iter().map(|(kind, name)| (*kind, name.agent.as_str(), name.version)).collect();
    assert_eq!(
        names,
        [(DefinitionKind::Workflow, "other", None), (DefinitionKind::Agent, "support", Some(3))]
    );
}
