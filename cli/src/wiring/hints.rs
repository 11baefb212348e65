//! Which hints follow a committed batch.

use holdpoint_db::{Committed, Created, NewExecution, Transition};
use holdpoint_engine::wire::{ExecutionKey, Message, NewEvents};
use holdpoint_queue::{Outgoing, Route};
use uuid::Uuid;

fn outgoing(route: Route, message: &Message) -> Outgoing {
    Outgoing::new(route, message.kind(), Uuid::now_v7(), message.encode())
}

/// Names the executions that are new and ready now, to any worker.
pub fn advance(starts: &[NewExecution], answers: &[Created]) -> Option<Outgoing> {
    let keys: Vec<ExecutionKey> = starts
        .iter()
        .zip(answers)
        .filter(|(start, _)| start.delay.is_none_or(|delay| delay.is_zero()))
        .filter_map(|(_, answer)| match answer {
            Created::New { key, .. } => Some(key.clone()),
            _ => None,
        })
        .collect();
    (!keys.is_empty()).then(|| outgoing(Route::Workers, &Message::Advance(keys)))
}

/// Names the executions that have new events, and up to which number, to all who serve streams.
pub fn events(transitions: &[Transition], outcomes: &[Committed]) -> Option<Outgoing> {
    let news: Vec<NewEvents> = transitions
        .iter()
        .zip(outcomes)
        .filter(|(transition, outcome)| {
            matches!(outcome, Committed::Done { .. })
                && transition.lines.iter().any(|line| line.event.is_some())
        })
        .map(|(transition, _)| NewEvents { key: transition.key.clone(), event: transition.last_event })
        .collect();
    (!news.is_empty()).then(|| outgoing(Route::Streams, &Message::Events(news)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    use holdpoint_db::{Conversation, Target};
    use holdpoint_engine::entropy::Entropy;
    use holdpoint_engine::entry::{Line, Usage};
    use holdpoint_engine::ids::{ExecutionId, SessionId};
    use holdpoint_engine::scope::Scope;
    use holdpoint_engine::status::{DefinitionKind, RunType};
    use holdpoint_engine::time::Timestamp;

    fn key(seed: u64) -> ExecutionKey {
        let id = ExecutionId::new(Timestamp::from_micros(1), &mut Entropy::from_seed(seed));
        ExecutionKey { scope: Scope::new("acme", "shop"), id }
    }

    fn start(seed: u64, delay: Option<Duration>) -> NewExecution {
        NewExecution {
            key: key(seed),
            kind: DefinitionKind::Workflow,
            name: "holdpoint.noop".to_owned(),
            version: None,
            input: None,
            messages: None,
            conversation: Conversation::None,
            idempotency: None,
            run_type: RunType::Production,
            delay,
            metadata: "{}".to_owned(),
            labels: BTreeMap::new(),
            end_user: None,
            created_by: String::new(),
            extras: Default::default(),
        }
    }

    fn created(seed: u64) -> Created {
        Created::New { key: key(seed), version: 1, created_at: Timestamp::default() }
    }

    #[test]
    fn only_what_is_new_and_ready_is_told() {
        let starts = [
            start(1, None),
            start(2, Some(Duration::from_secs(1))),
            start(3, None),
            start(4, Some(Duration::ZERO)),
        ];
        let answers = [created(1), created(2), Created::Mismatch, created(4)];
        let hint = advance(&starts, &answers).expect("a hint");
        assert_eq!(hint.route, Route::Workers);
        assert_eq!(Message::decode(&hint.body), Ok(Message::Advance(vec![key(1), key(4)])));
        assert!(advance(&starts[2..3], &answers[2..3]).is_none());
    }

    fn transition(seed: u64, event: Option<i64>) -> Transition {
        let line = Line {
            seq: 1,
            event,
            kind: String::new(),
            step: 0,
            at: Timestamp::default(),
            payload: "{}".to_owned(),
        };
        Transition {
            key: key(seed),
            session: SessionId(Uuid::nil()),
            epoch: 1,
            expected_seq: 0,
            seen_wake: 0,
            lines: vec![line],
            last_event: 7,
            gates: Vec::new(),
            approvals: Vec::new(),
            grants: Vec::new(),
            unheard: None,
            acts_taken: Vec::new(),
            usage: Usage::default(),
            definition: (String::new(), 1),
            target: Target::Running,
        }
    }

    #[test]
    fn only_events_that_were_committed_are_told() {
        let transitions = [transition(1, Some(7)), transition(2, None), transition(3, Some(7))];
        let done = Committed::Done { wake: 0, released: false };
        let hint = events(&transitions, &[done.clone(), done, Committed::Fenced]).expect("a hint");
        assert_eq!(hint.route, Route::Streams);
        assert_eq!(
            Message::decode(&hint.body),
            Ok(Message::Events(vec![NewEvents { key: key(1), event: 7 }]))
        );
    }
}
