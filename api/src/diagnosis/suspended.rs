//! It waits: for a person, for time, for somebody elsewhere.

use std::collections::BTreeMap;

use holdpoint_engine::advance::task_of;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::Reason;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::workflow::document::{Consume, Listen, Work};
use holdpoint_engine::workflow::expression::Template;
use holdpoint_engine::workflow::state::{Frame, Phase};

use super::evidence::Evidence;
use super::scene::{Said, Scene};
use super::sentences::Sentence;
use super::words::{clock, length, listed, unstopped};

impl Scene<'_> {
    pub fn suspended(&mut self) -> Said {
        self.open_approvals();
        self.failed_attempts();
        self.unknown_outcomes();
        if let Some((by, at)) = self.seen.paused.clone() {
            self.push(Evidence::Paused { by, at });
        }
        if let Some(at) = self.standing.ready_at.filter(|at| *at <= self.now()) {
            return self.ready(at);
        }
        match self.standing.row.reason {
            Some(Reason::Paused) => self.paused(),
            Some(Reason::Approval) => self.asked(),
            Some(Reason::OutcomeUnknown) => self.unknown(),
            Some(Reason::Retry) => self.retry(),
            Some(Reason::Timer) => self.timer(),
            _ => self.news(),
        }
    }

    fn failed_attempts(&mut self) {
        let failed: Vec<Evidence> = self
            .seen
            .retries
            .values()
            .map(|failed| Evidence::Retry {
                step: failed.step,
                attempt: failed.attempt,
                retry_at: failed.retry_at,
                error: failed.error.clone(),
            })
            .collect();
        self.evidence.extend(failed);
    }

    fn unknown_outcomes(&mut self) {
        let unknown: Vec<Evidence> = self
            .seen
            .unknown
            .values()
            .map(|unknown| Evidence::OutcomeUnknown {
                step: unknown.step,
                tool: self.seen.tools.get(&unknown.step).cloned(),
                settled_at: unknown.settled_at,
                asked_next_at: self.seen.asked_next.get(&unknown.step).copied(),
                error: unknown.error.clone(),
            })
            .collect();
        self.evidence.extend(unknown);
    }

    fn paused(&self) -> Said {
        let text = match &self.seen.paused {
            Some((by, at)) => {
                format!("It was paused by {by} at {}: it goes on after a resume", self.when(*at))
            }
            None => "It is paused: it goes on after a resume".to_owned(),
        };
        Said::new(Sentence::Paused, text)
    }

    fn unknown(&self) -> Said {
        let calls: Vec<String> = self
            .seen
            .unknown
            .keys()
            .map(|step| match self.seen.tools.get(step) {
                Some(tool) => format!("the call of `{tool}` (step {step})"),
                None => format!("step {step}"),
            })
            .collect();
        let nobody = format!("Nobody knows whether {} happened", listed(&calls));
        match self.seen.asked_next.values().min() {
            Some(at) => {
                let text = format!("{nobody}: the tool is asked at {}", self.when(*at));
                Said::new(Sentence::OutcomeAsked, text)
            }
            None => Said::new(Sentence::OutcomeUnknown, format!("{nobody}: find out, and resolve it")),
        }
    }

    fn retry(&mut self) -> Said {
        let due = |scene: &Self, at: Timestamp| format!("the next is due at {}", scene.when(at));
        let text = match self.seen.retries.values().max_by_key(|failed| failed.retry_at) {
            Some(failed) => format!(
                "Attempt {} of step {}{} failed ({}: {}); {}",
                failed.attempt,
                failed.step,
                self.seen.tools.get(&failed.step).map(|tool| format!(" (`{tool}`)")).unwrap_or_default(),
                failed.error.kind,
                unstopped(&failed.error.message),
                due(self, self.standing.ready_at.unwrap_or(failed.retry_at))
            ),
            None => {
                let at = self.retrying_task().or(self.standing.ready_at).unwrap_or(self.now());
                format!("A failed attempt will be made again; {}", due(self, at))
            }
        };
        Said::new(Sentence::Retry, text)
    }

    fn retrying_task(&self) -> Option<Timestamp> {
        let phases = self.frames().map(|frame| &frame.phase);
        phases.filter_map(|phase| if let Phase::Retry { at, .. } = phase { Some(*at) } else { None }).min()
    }

    fn timer(&mut self) -> Said {
        let waits: Vec<(Option<String>, Timestamp)> = self
            .frames()
            .filter_map(|frame| match frame.phase {
                Phase::Until(at) => Some((self.task(frame), at)),
                _ => None,
            })
            .collect();
        let first = waits.iter().min_by_key(|(_, at)| *at).cloned();
        let evidence = waits.into_iter().map(|(task, until)| Evidence::Wait { task, until });
        self.evidence.extend(evidence);
        let text = match (first, self.standing.ready_at) {
            (Some((Some(task), at)), _) => format!("Its task `{task}` waits until {}", self.when(at)),
            (Some((None, at)), _) | (None, Some(at)) => format!("It waits until {}", self.when(at)),
            (None, None) => {
                return Said::new(Sentence::Unexplained, "It waits for a moment that nothing names");
            }
        };
        Said::new(Sentence::Timer, text)
    }

    /// It waits for what comes from elsewhere: a child's end, a task's report, an event.
    fn news(&mut self) -> Said {
        let said = [self.child(), self.queue_task(), self.listening()];
        match said.into_iter().flatten().next() {
            Some(said) => said,
            None => match self.standing.ready_at {
                Some(at) => Said::new(Sentence::Timer, format!("It waits until {}", self.when(at))),
                None => {
                    let text = "It is suspended, and nothing in its journal says for what";
                    Said::new(Sentence::Unexplained, text)
                }
            },
        }
    }

    fn child(&mut self) -> Option<Said> {
        let mut open: BTreeMap<ExecutionId, Evidence> = BTreeMap::new();
        for child in &self.standing.around.children {
            let known = self.beside.children.iter().find(|(id, _)| *id == child.child).map(|(_, told)| told);
            let evidence = Evidence::Child {
                step: child.step,
                execution_id: child.child,
                status: child.status,
                code: known.map(|told| told.code),
                summary: known.map(|told| told.summary.clone()),
            };
            open.insert(child.child, evidence);
        }
        let (first, _) = open.first_key_value()?;
        let first = *first;
        let others = match open.len() {
            1 => String::new(),
            2 => ", and for one more".to_owned(),
            more => format!(", and for {} more", more - 1),
        };
        let its = self.beside.children.iter().find(|(id, _)| *id == first);
        let its = its.map(|(_, told)| format!(": {}", unstopped(&told.summary))).unwrap_or_default();
        self.evidence.extend(open.into_values());
        Some(Said::new(Sentence::Child, format!("It waits for the end of {first}{others}{its}")))
    }

    fn queue_task(&mut self) -> Option<Said> {
        let tasks: Vec<Evidence> = self
            .seen
            .elsewhere
            .iter()
            .map(|(step, task)| Evidence::QueueTask {
                step: *step,
                queue: self.seen.queues.get(step).map(|terms| terms.name.clone()),
                tool: self.seen.tools.get(step).cloned().unwrap_or_default(),
                since: Some(task.since),
                heartbeat_due: task.due,
            })
            .collect();
        let (step, task) = self.seen.elsewhere.first_key_value()?;
        let queue = self.seen.queues.get(step).map(|terms| terms.name.as_str()).unwrap_or_default();
        let silent = match task.due {
            Some(due) => format!("; silent until {}, it is lost", self.when(due)),
            None => "; it may take as long as it likes".to_owned(),
        };
        let text = format!(
            "It waits for a worker of the queue `{queue}`, which has its task (step {step}) since {} ({}){silent}",
            clock(task.since),
            length(task.since, self.now())
        );
        self.evidence.extend(tasks);
        Some(Said::new(Sentence::QueueTask, text))
    }

    fn listening(&mut self) -> Option<Said> {
        let frames: Vec<(Option<String>, Vec<String>, usize)> = self
            .frames()
            .filter_map(|frame| match &frame.phase {
                Phase::Listen(listening) => {
                    Some((self.task(frame), self.events(frame), listening.taken.len()))
                }
                _ => None,
            })
            .collect();
        let (task, events, taken) = frames.first().cloned()?;
        let evidence =
            frames.into_iter().map(|(task, events, taken)| Evidence::Listen { task, events, taken });
        self.evidence.extend(evidence);
        let what = match events.as_slice() {
            [] => "any event".to_owned(),
            named => format!("an event of the type {}", named.join(" or ")),
        };
        let task = task.map_or("It".to_owned(), |task| format!("Its task `{task}`"));
        let so_far = if taken == 0 { String::new() } else { format!(", after {taken} that came") };
        let until = self.standing.ready_at.map(|at| format!(", until {}", self.when(at))).unwrap_or_default();
        Some(Said::new(Sentence::Listen, format!("{task} waits for {what}{so_far}{until}")))
    }

    fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.seen.flow.iter().flat_map(|state| state.frames.values())
    }

    /// The frame's task, as the document names it.
    fn task(&self, frame: &Frame) -> Option<String> {
        let task = task_of(self.beside.workflow?, self.seen.flow.as_ref()?, frame)?;
        Some(task.pointer.clone())
    }

    /// The types of the events that it listens for, where they are constants.
    fn events(&self, frame: &Frame) -> Vec<String> {
        let found = self.beside.workflow.zip(self.seen.flow.as_ref());
        let task = found.and_then(|(workflow, state)| task_of(workflow, state, frame));
        match task.as_ref().map(|task| &task.work) {
            Some(Work::Listen(listen)) => types(listen),
            _ => Vec::new(),
        }
    }
}

fn types(listen: &Listen) -> Vec<String> {
    let filters = match &listen.to {
        Consume::One(filter) => std::slice::from_ref(filter),
        Consume::All(filters) | Consume::Any { filters, .. } => filters.as_slice(),
    };
    let wanted = filters.iter().filter_map(|filter| filter.with.get("type"));
    let constant = |template: &Template| match template {
        Template::Constant(value) => value.as_str().map(|kind| format!("`{kind}`")),
        _ => None,
    };
    wanted.filter_map(constant).collect()
}
