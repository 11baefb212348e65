//! Beginning: the workflow itself, and each kind of task.

use std::sync::Arc;

use serde_json::Value;

use super::data::Scope;
use super::{Halt, MOST_BRANCHES, Machine, Step, lost};
use crate::time::Timestamp;
use crate::workflow::document::{Case, ErrorTemplate, For, Task, TaskList, Then, Work};
use crate::workflow::fault::Fault;
use crate::workflow::state::{Attempt, FrameId, Phase, Section, ValueRef};

impl Machine<'_, '_> {
    pub(super) fn begin_workflow(&mut self) -> Step<()> {
        let raw = Arc::new(self.turn.pinned.input.clone());
        let scope = Scope::of_workflow(Arc::clone(&raw));
        let workflow = self.workflow;
        let input = match self.filter_in(&workflow.input, &raw, &scope)? {
            Some(input) => input,
            None => raw.as_ref().clone(),
        };
        if let Some(timeout) = &workflow.timeout {
            let length = self.length(timeout, &input, &scope)?;
            self.state.due = Some(self.turn.now.plus(length));
        }
        let input = self.store(&input)?;
        self.state.context = input;
        if workflow.tasks.is_empty() {
            return self.end(self.value(input)?);
        }
        self.start(None, Section::Main, 0, input).map(drop)
    }

    pub(super) fn begin(&mut self, id: FrameId) -> Step<()> {
        let task = self.task(id)?;
        let raw_ref = self.frame(id)?.raw;
        let raw = self.value(raw_ref)?;
        let scope = Scope::of(id, Arc::clone(&raw));
        if let Some(condition) = &task.condition
            && !self.holds(condition, &raw, &scope)?
        {
            return self.skip(id, raw_ref);
        }
        let input = match self.filter_in(&task.input, &raw, &scope)? {
            Some(input) => self.store(&input)?,
            None => raw_ref,
        };
        self.frame_mut(id)?.input = input;
        if let Some(timeout) = &task.timeout {
            let scope = self.scope(id)?;
            let length = self.length(timeout, self.input(id)?.as_ref(), &scope)?;
            let due = self.turn.now.plus(length);
            self.frame_mut(id)?.due = Some(due);
        }
        self.work(id, &task, input)
    }

    fn work(&mut self, id: FrameId, task: &Arc<Task>, input: ValueRef) -> Step<()> {
        let dot = self.value(input)?;
        let scope = self.scope(id)?;
        match &task.work {
            Work::Set(template) => {
                let output = self.fill(template, &dot, &scope)?;
                self.complete(id, Arc::new(output))
            }
            Work::Do(tasks) => self.begin_list(id, Section::Body, tasks, input),
            Work::Switch(cases) => self.switch(id, cases, &dot),
            Work::For(of) => self.begin_for(id, of, input),
            Work::Fork { branches, .. } => self.fork(id, branches, input),
            Work::Try { body, catch } => {
                let began = self.turn.now;
                self.begin_attempt(id, body, catch, 1, began)
            }
            Work::Raise(error) => {
                let fault = self.error(error, &dot, &scope)?;
                Err(fault.into())
            }
            Work::Wait(length) => {
                let length = self.length(length, &dot, &scope)?;
                let until = self.turn.now.plus(length);
                self.frame_mut(id)?.phase = Phase::Until(until);
                Ok(())
            }
            Work::Function { with, .. } => {
                let raw = match with {
                    Some(with) => {
                        let given = self.fill(with, &dot, &scope)?;
                        self.store(&given)?
                    }
                    None => input,
                };
                self.frame_mut(id)?.phase = Phase::Inside;
                self.start(Some(id), Section::Function, 0, raw).map(drop)
            }
            Work::Emit(template) => self.emit(id, template, &dot, &scope),
            Work::Listen(listen) => self.begin_listen(id, listen),
            Work::Approval(approval) => self.ask_person(id, task, approval, &dot, &scope),
            _ => self.begin_effect(id, task, &dot, &scope),
        }
    }

    /// The tasks of a list, one after the other.
    fn begin_list(&mut self, id: FrameId, section: Section, tasks: &TaskList, input: ValueRef) -> Step<()> {
        self.frame_mut(id)?.phase = Phase::Inside;
        if tasks.is_empty() {
            return self.complete(id, self.value(input)?);
        }
        self.start(Some(id), section, 0, input).map(drop)
    }

    /// The first case that holds, else the one without a condition, wherever that stands. Without
    /// either it goes on as its own `then` says.
    fn switch(&mut self, id: FrameId, cases: &[Case], dot: &Arc<Value>) -> Step<()> {
        let scope = self.scope(id)?;
        let mut then = cases.iter().find(|case| case.when.is_none()).map(|case| case.then);
        for case in cases {
            if let Some(when) = &case.when
                && self.holds(when, dot, &scope)?
            {
                then = Some(case.then);
                break;
            }
        }
        self.complete_with(id, Arc::clone(dot), then)
    }

    /// The items are those that are there when it begins.
    fn begin_for(&mut self, id: FrameId, of: &For, input: ValueRef) -> Step<()> {
        let scope = self.scope(id)?;
        let items = self.evaluate(&of.over, self.value(input)?.as_ref(), &scope)?;
        let items = match items {
            items @ Value::Array(_) => items,
            Value::Null => Value::Array(Vec::new()),
            other => {
                let what = super::data::kind_of(&other);
                return Err(Fault::expression(format!("`for.in` is {what}: it may be an array")).into());
            }
        };
        let ValueRef::Own(items) = self.store(&items)? else { return Err(lost("items")) };
        self.iterate(id, items, 0, input)
    }

    /// The next item of a `for`, or its end.
    pub(super) fn iterate(&mut self, id: FrameId, items: u64, index: usize, raw: ValueRef) -> Step<()> {
        let task = self.task(id)?;
        let Work::For(of) = &task.work else { return Err(lost("a loop")) };
        let all = self.value(ValueRef::Own(items))?;
        if index >= all.as_array().map_or(0, Vec::len) || of.body.is_empty() {
            return self.complete(id, self.value(raw)?);
        }
        let frame = self.frame_mut(id)?;
        frame.begun = 0;
        frame.phase = Phase::For { items, index };
        frame.variables.insert(of.each.clone(), ValueRef::Member(items, index));
        frame.variables.insert(of.at.clone(), ValueRef::Number(index as u64));
        if let Some(condition) = &of.while_holds {
            let scope = self.scope(id)?;
            let dot = self.value(raw)?;
            if !self.holds(condition, &dot, &scope)? {
                return self.complete(id, dot);
            }
        }
        self.start(Some(id), Section::Body, 0, raw).map(drop)
    }

    fn fork(&mut self, id: FrameId, branches: &TaskList, input: ValueRef) -> Step<()> {
        let count = branches.len();
        if count > MOST_BRANCHES {
            return Err(Halt::Limit { name: "branches", limit: MOST_BRANCHES, was: count });
        }
        if count == 0 {
            return self.complete(id, self.value(input)?);
        }
        self.frame_mut(id)?.phase = Phase::Fork(vec![None; count]);
        for at in 0..count {
            self.start(Some(id), Section::Branch, at, input)?;
        }
        Ok(())
    }

    pub(super) fn begin_attempt(
        &mut self,
        id: FrameId,
        body: &TaskList,
        catch: &crate::workflow::document::Catch,
        number: u32,
        began: Timestamp,
    ) -> Step<()> {
        let input = self.frame(id)?.input;
        let longest = catch.retry.as_ref().and_then(|retry| retry.attempt_duration.as_ref());
        let due = match longest {
            Some(longest) => {
                let scope = self.scope(id)?;
                Some(self.turn.now.plus(self.length(longest, self.value(input)?.as_ref(), &scope)?))
            }
            None => None,
        };
        if body.is_empty() {
            return self.complete(id, self.value(input)?);
        }
        let at = Some(self.turn.now);
        let frame = self.frame_mut(id)?;
        frame.begun = 0;
        frame.phase = Phase::Try(Attempt { number, began, at, due });
        self.start(Some(id), Section::Body, 0, input).map(drop)
    }

    fn error(&self, error: &ErrorTemplate, dot: &Value, scope: &Scope) -> Step<Fault> {
        let text = |template: &Option<_>, what| {
            template.as_ref().map(|template| self.fill_text(template, dot, scope, what)).transpose()
        };
        let status = self.fill(&error.status, dot, scope)?;
        let number = match &status {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64().and_then(|number| u16::try_from(number).ok()),
        };
        let wrong =
            || Fault::expression(format!("an error's `status` is {status}: it may be a number as of HTTP"));
        Ok(Fault {
            kind: self.fill_text(&error.kind, dot, scope, "an error's `type`")?,
            status: number.ok_or_else(wrong)?,
            title: text(&error.title, "an error's `title`")?,
            detail: text(&error.detail, "an error's `detail`")?,
            instance: text(&error.instance, "an error's `instance`")?,
            cause: None,
            reason: None,
            secrets: Vec::new(),
            retry_after: None,
        })
    }

    /// A task whose condition does not hold leaves no line, and gives its input on.
    fn skip(&mut self, id: FrameId, raw: ValueRef) -> Step<()> {
        let frame = self.frame(id)?.clone();
        self.state.frames.remove(&id);
        self.child_over(&frame, raw, Then::Continue)
    }
}
