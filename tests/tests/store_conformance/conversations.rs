//! Conversations: who may be in them, what they keep, and what the next execution is given.

use holdpoint_db::*;
use holdpoint_engine::entry::{Entry, ExecutionCompleted};
use holdpoint_engine::status::{DefinitionKind, Status};
use holdpoint_tests::store_builders::*;

use super::kit::*;

on_both_stores! {
    messages_come_with_the_start_and_with_the_end;
    the_next_execution_is_given_what_was_said;
    history_is_bounded_and_keeps_whole_turns;
    an_end_from_outside_leaves_what_is_complete;
    a_used_message_id_is_refused_and_leaves_nothing;
    a_conversation_belongs_to_its_first_end_user;
    one_batch_is_judged_by_whom_each_start_speaks_for;
    equal_ids_in_two_tenants_never_meet;
    messages_are_read_in_pages_and_by_role;
    what_no_execution_said_is_written_whole_or_not_at_all;
}

/// The next turn of an agent in the conversation, with these messages of the user.
fn turn(conversation: &str, texts: &[&str]) -> NewExecution {
    let messages: Vec<_> =
        texts.iter().map(|text| serde_json::json!({"role": "user", "content": text})).collect();
    NewExecution {
        kind: DefinitionKind::Agent,
        name: "clerk".to_owned(),
        input: None,
        messages: Some(serde_json::to_string(&messages).unwrap()),
        conversation: Conversation::Named(conversation.to_owned()),
        ..start()
    }
}

fn with_ids(conversation: &str, ids: &[&str]) -> NewExecution {
    let message_ids = ids.iter().map(|id| Some((*id).to_owned())).collect();
    NewExecution { extras: Extras { message_ids, ..Extras::default() }, ..turn(conversation, ids) }
}

fn as_user(user: Option<&str>, new: NewExecution) -> NewExecution {
    NewExecution { end_user: user.map(str::to_owned), ..new }
}

fn put_clerk(bed: &Bed, scope: &holdpoint_engine::scope::Scope) {
    bed.store.definition_put(scope, DefinitionKind::Agent, "clerk", "{}", "key").unwrap();
}

fn one(bed: &Bed, new: NewExecution) -> Created {
    bed.store.execution_create(&[new]).unwrap().pop().unwrap()
}

/// Completes an execution that left these messages.
fn end_with(bed: &Bed, held: &mut Held, messages: &[serde_json::Value]) {
    let Target::Ended(ending) = completed() else { panic!("an end") };
    let messages = messages.iter().map(ToString::to_string).collect();
    let output = holdpoint_engine::json("done");
    let entry = Entry::ExecutionCompleted(ExecutionCompleted { output });
    let end = held.next(vec![entry], Target::Ended(Ending { messages, ..ending }));
    assert_eq!(commit(bed, end.clone()), FREED);
    // The same again is the same end: nothing is said twice.
    assert_eq!(commit(bed, end), FREED);
}

fn said(text: &str) -> serde_json::Value {
    serde_json::json!({"role": "assistant", "content": text})
}

fn all(bed: &Bed, scope: &holdpoint_engine::scope::Scope, conversation: &str) -> Vec<MessageRow> {
    let filter = MessageFilter { conversation: conversation.to_owned(), limit: 1_000, ..Default::default() };
    let rows = bed.store.message_list(scope, &filter).unwrap();
    let numbers: Vec<i64> = rows.iter().map(|row| row.n).collect();
    assert_eq!(numbers, (1..=rows.len() as i64).collect::<Vec<_>>());
    rows
}

fn texts(rows: &[MessageRow]) -> Vec<String> {
    let text = |row: &MessageRow| {
        let message: serde_json::Value = serde_json::from_str(&row.message).unwrap();
        message["content"].as_str().unwrap().to_owned()
    };
    rows.iter().map(text).collect()
}

fn conversation(bed: &Bed, id: &str) -> ConversationRow {
    bed.store.conversation_get(&scope(), id).unwrap().unwrap()
}

fn messages_come_with_the_start_and_with_the_end(bed: &Bed) {
    put_clerk(bed, &scope());
    let new = as_user(Some("ada"), with_ids("c", &["a", "b"]));
    let mut held = Held::begin_with(bed.store.as_ref(), new);
    let key = held.key().clone();
    let row = conversation(bed, "c");
    assert_eq!((row.active, row.latest, row.end_user.as_deref()), (Some(key.id), Some(key.id), Some("ada")));
    let begun = all(bed, &scope(), "c");
    assert_eq!((texts(&begun), begun[1].message_id.as_deref()), (vec!["a".into(), "b".into()], Some("b")));
    end_with(bed, &mut held, &[said("x"), said("y")]);
    let ended = all(bed, &scope(), "c");
    assert_eq!(texts(&ended), ["a", "b", "x", "y"]);
    assert!(ended.iter().all(|row| row.execution == Some(key.id)));
    let row = conversation(bed, "c");
    assert_eq!((row.active, row.latest), (None, Some(key.id)));
    // A made one has its row too, and the next turn names it.
    let made = NewExecution { conversation: Conversation::Made("m".to_owned()), ..turn("", &["hi"]) };
    let mut held = Held::begin_with(bed.store.as_ref(), made);
    end_with(bed, &mut held, &[said("hello")]);
    create(bed.store.as_ref(), turn("m", &["again"]));
    assert_eq!(texts(&all(bed, &scope(), "m")), ["hi", "hello", "again"]);
    // A start without a conversation makes none.
    create(bed.store.as_ref(), start());
    assert_eq!(execute(bed, "UPDATE conversations SET created_at = created_at"), 2);
}

fn the_next_execution_is_given_what_was_said(bed: &Bed) {
    put_clerk(bed, &scope());
    let store = bed.store.as_ref();
    let mut first = Held::begin_with(store, turn("c", &["a"]));
    assert!(first.claimed.history.is_empty(), "its own messages are no history");
    end_with(bed, &mut first, &[said("x")]);
    let second = create(store, turn("c", &["b"]));
    let other = create(store, turn("d", &["z"]));
    let mine = session(store);
    let claimed = claim(store, mine, &[&second, &other]);
    let history = |key: &holdpoint_engine::wire::ExecutionKey| {
        claimed.iter().find(|one| one.key == *key).unwrap().history.clone()
    };
    let expected = [r#"{"content":"a","role":"user"}"#, r#"{"content":"x","role":"assistant"}"#];
    assert_eq!(history(&second), expected);
    assert!(history(&other).is_empty());
    // A later worker is given the same.
    store.execution_release(mine, &[second.clone()]).unwrap();
    assert_eq!(take(bed, &second).claimed.history, expected);
}

fn history_is_bounded_and_keeps_whole_turns(bed: &Bed) {
    put_clerk(bed, &scope());
    let store = bed.store.as_ref();
    let mut first = Held::begin_with(store, turn("c", &["a"]));
    let call = serde_json::json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "t", "type": "function", "function": {"name": "n", "arguments": "{}"}}]});
    let told = serde_json::json!({"role": "tool", "tool_call_id": "t", "content": "ok"});
    end_with(bed, &mut first, &[call.clone(), told.clone(), said("x")]);
    let key = create(store, turn("c", &["b"]));
    let given = |messages: i64, bytes: i64| {
        let mine = session(store);
        let history = HistoryLimits { messages, bytes };
        let request = ClaimRequest {
            session: mine,
            hinted: vec![key.clone()],
            limit: 1,
            any: false,
            history,
            tenant_concurrency: None,
        };
        let claimed = store.execution_claim(&request).unwrap().pop().unwrap();
        store.session_end(mine).unwrap();
        claimed.history
    };
    let last = said("x").to_string();
    assert_eq!(given(100, 10_000).len(), 4);
    assert_eq!(given(3, 10_000), [call.to_string(), told.to_string(), last.clone()]);
    assert_eq!(given(2, 10_000), [last.clone()], "an answer of a tool never comes without its call");
    assert_eq!(given(100, last.len() as i64), [last.clone()]);
    assert_eq!(given(100, last.len() as i64 - 1), [""; 0]);
    assert!(given(0, 10_000).is_empty());
}

fn an_end_from_outside_leaves_what_is_complete(bed: &Bed) {
    put_clerk(bed, &scope());
    // Its only answer asks for a call that nobody decided: that is not complete.
    let key = waiting(bed.store.as_ref(), turn("c", &["a"]), &[Asked::open("t")]);
    act(bed, &key, &ActRequest::Cancel).unwrap();
    assert_eq!(get(bed, &key).status, Status::Cancelled);
    assert_eq!(texts(&all(bed, &scope(), "c")), ["a"]);
    // Denied, told, and then cancelled: complete.
    let key = waiting(bed.store.as_ref(), turn("c", &["b"]), &[Asked::open("t")]);
    assert!(matches!(decide(bed, &key, "t", false), Decided::Taken { .. }));
    let mut held = take(bed, &key);
    let denied = Entry::ToolDenied(holdpoint_engine::entry::ToolDenied {
        step: 2,
        tool_call_id: "t".to_owned(),
        tool: "refund".to_owned(),
        reason: None,
    });
    let target = Target::Suspended { reason: holdpoint_engine::status::Reason::Signal, ready_at: None };
    assert_eq!(commit(bed, held.next(vec![denied], target)), FREED);
    act(bed, &key, &ActRequest::Cancel).unwrap();
    let rows = all(bed, &scope(), "c");
    let roles: Vec<bool> = rows.iter().map(|row| row.message.contains("\"tool_call_id\":\"t\"")).collect();
    assert_eq!(roles, [false, false, false, true], "{rows:?}");
}

fn a_used_message_id_is_refused_and_leaves_nothing(bed: &Bed) {
    put_clerk(bed, &scope());
    let mut first = Held::begin_with(bed.store.as_ref(), with_ids("c", &["a"]));
    end_with(bed, &mut first, &[said("x")]);
    let again = with_ids("c", &["b", "a"]);
    let refused = again.key.clone();
    assert!(matches!(one(bed, again), Created::MessageIdUsed { id } if id == "a"));
    assert!(bed.store.execution_get(&refused.scope, refused.id).unwrap().is_none());
    assert!(matches!(one(bed, with_ids("c", &["d", "d"])), Created::MessageIdUsed { id } if id == "d"));
    assert_eq!(conversation(bed, "c").active, None);
    assert_eq!(texts(&all(bed, &scope(), "c")), ["a", "x"]);
    // The same id elsewhere is another message; in one batch the good one is taken.
    let batch = [with_ids("c", &["a"]), with_ids("d", &["a"]), with_ids("c", &["b"])];
    let created = bed.store.execution_create(&batch).unwrap();
    assert!(matches!(&created[0], Created::MessageIdUsed { .. }), "{created:?}");
    assert!(matches!(&created[1..], [Created::New { .. }, Created::New { .. }]), "{created:?}");
    assert_eq!(texts(&all(bed, &scope(), "c")), ["a", "x", "b"]);
}

fn a_conversation_belongs_to_its_first_end_user(bed: &Bed) {
    put_clerk(bed, &scope());
    let ada = |texts: &[&str]| as_user(Some("ada"), turn("c", texts));
    let mut first = Held::begin_with(bed.store.as_ref(), ada(&["a"]));
    // Whether it is busy is nothing that another one is told.
    let stranger = || as_user(Some("bob"), turn("c", &["x"]));
    assert!(matches!(one(bed, stranger()), Created::UnknownConversation));
    assert!(matches!(one(bed, ada(&["x"])), Created::ConversationBusy { .. }));
    end_with(bed, &mut first, &[]);
    assert!(matches!(one(bed, stranger()), Created::UnknownConversation));
    // Who speaks for nobody may; what happens is hers.
    let key = create(bed.store.as_ref(), turn("c", &["b"]));
    assert_eq!(get(bed, &key).end_user.as_deref(), Some("ada"));
    act(bed, &key, &ActRequest::Cancel).unwrap();
    create(bed.store.as_ref(), ada(&["c"]));
    assert_eq!(texts(&all(bed, &scope(), "c")), ["a", "b", "c"]);
    // One that belongs to nobody is nobody's to go on with in a name.
    let mut open = Held::begin_with(bed.store.as_ref(), turn("d", &["a"]));
    end_with(bed, &mut open, &[]);
    assert!(matches!(one(bed, as_user(Some("ada"), turn("d", &["b"]))), Created::UnknownConversation));
}

fn one_batch_is_judged_by_whom_each_start_speaks_for(bed: &Bed) {
    put_clerk(bed, &scope());
    let mut first = Held::begin_with(bed.store.as_ref(), as_user(Some("ada"), turn("c", &["a"])));
    end_with(bed, &mut first, &[]);
    let user = |user| as_user(Some(user), turn("c", &["x"]));
    let created = bed.store.execution_create(&[user("bob"), user("ada"), user("ada"), user("eve")]).unwrap();
    let words: Vec<&str> = created
        .iter()
        .map(|one| match one {
            Created::New { .. } => "new",
            Created::ConversationBusy { .. } => "busy",
            Created::UnknownConversation => "unknown",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(words, ["unknown", "new", "busy", "unknown"]);
}

fn equal_ids_in_two_tenants_never_meet(bed: &Bed) {
    put_clerk(bed, &scope());
    put_clerk(bed, &stranger());
    let mut ours = Held::begin_with(bed.store.as_ref(), with_ids("c", &["a"]));
    let mut theirs = with_ids("c", &["a"]);
    theirs.key.scope = stranger();
    let mut theirs = Held::begin_with(bed.store.as_ref(), theirs);
    assert!(theirs.claimed.history.is_empty());
    end_with(bed, &mut ours, &[said("ours")]);
    assert!(bed.store.conversation_get(&stranger(), "c").unwrap().unwrap().active.is_some());
    end_with(bed, &mut theirs, &[said("theirs")]);
    assert_eq!(texts(&all(bed, &scope(), "c")), ["a", "ours"]);
    assert_eq!(texts(&all(bed, &stranger(), "c")), ["a", "theirs"]);
    let other = holdpoint_engine::scope::Scope::new("acme", "other");
    assert!(bed.store.conversation_get(&other, "c").unwrap().is_none());
    assert!(all(bed, &other, "c").is_empty());
}

fn messages_are_read_in_pages_and_by_role(bed: &Bed) {
    put_clerk(bed, &scope());
    let mut held = Held::begin_with(bed.store.as_ref(), turn("c", &["a", "b"]));
    end_with(bed, &mut held, &[said("x")]);
    create(bed.store.as_ref(), turn("c", &["d"]));
    let list = |after, newest_of: Option<&str>, limit| {
        let newest_of = newest_of.map(str::to_owned);
        let filter = MessageFilter { conversation: "c".to_owned(), after, newest_of, limit };
        texts(&bed.store.message_list(&scope(), &filter).unwrap())
    };
    assert_eq!(list(0, None, 2), ["a", "b"]);
    assert_eq!(list(2, None, 2), ["x", "d"]);
    assert_eq!(list(0, Some("user"), 2), ["d", "b"]);
    assert_eq!(list(0, Some("assistant"), 2), ["x"]);
}

fn what_no_execution_said_is_written_whole_or_not_at_all(bed: &Bed) {
    put_clerk(bed, &scope());
    let say = |conversation: &str, user: Option<&str>, said: &[(Option<&str>, &str)]| {
        let message = |text: &str| serde_json::json!({"role": "user", "content": text}).to_string();
        let messages = said.iter().map(|(id, text)| (id.map(str::to_owned), message(text))).collect();
        let (conversation, end_user) = (conversation.to_owned(), user.map(str::to_owned));
        bed.store
            .conversation_say(
                &scope(),
                &Spoken { conversation, end_user, agent: "clerk".to_owned(), active_agent: None, messages },
            )
            .unwrap()
    };
    // It makes the conversation; `all` holds the numbers to be without a gap.
    assert_eq!(say("c", Some("ada"), &[(Some("m1"), "a"), (None, "x")]), Said::Written);
    let row = conversation(bed, "c");
    assert_eq!((row.end_user.as_deref(), row.active, row.latest), (Some("ada"), None, None));
    assert!(all(bed, &scope(), "c").iter().all(|row| row.execution.is_none()));
    // One used id is enough that nothing of it stands there, and no number is lost.
    let used = Said::MessageIdUsed { id: "m1".to_owned() };
    assert_eq!(say("c", Some("ada"), &[(Some("m2"), "b"), (Some("m1"), "c")]), used);
    assert_eq!(say("c", Some("eve"), &[(None, "e")]), Said::UnknownConversation);
    assert_eq!(say("c", None, &[(Some("m2"), "b")]), Said::Written);
    assert_eq!(texts(&all(bed, &scope(), "c")), ["a", "x", "b"]);
    // Beside an active execution it comes after what that one began with.
    let mut held = Held::begin_with(bed.store.as_ref(), as_user(Some("ada"), turn("c", &["d"])));
    let history = held.claimed.history.clone();
    assert_eq!((history.len(), say("c", Some("ada"), &[(None, "between")])), (3, Said::Written));
    end_with(bed, &mut held, &[said("y")]);
    assert_eq!(texts(&all(bed, &scope(), "c")), ["a", "x", "b", "d", "between", "y"]);
    assert_eq!(conversation(bed, "c").active, None);
}
