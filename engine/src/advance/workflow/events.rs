//! Events: sent by `emit`, consumed by `listen`. Each event that came is consumed once in an
//! execution, by the first listener that it fits; events that came before a listener began are
//! offered to it too, in their order.

use std::sync::Arc;

use regex::RegexBuilder;
use serde_json::{Value, json};

use super::data::Scope;
use super::{Halt, Machine, Step, lost};
use crate::digest;
use crate::entry::{Entry, EventEmitted};
use crate::workflow::document::{Consume, EventFilter, ForEachEvent, Listen, Read, Task, Until, Work};
use crate::workflow::expression::Template;
use crate::workflow::fault::Fault;
use crate::workflow::state::{Frame, FrameId, Listening, Phase, Section, ValueRef, read};

impl Machine<'_, '_> {
    /// What a CloudEvent must have and the author left out is put in.
    pub(super) fn emit(&mut self, id: FrameId, template: &Template, dot: &Value, scope: &Scope) -> Step<()> {
        let Value::Object(mut event) = self.fill(template, dot, scope)? else {
            return Err(Fault::expression("an event is an object of its attributes").into());
        };
        // Nobody who reads them may take a workflow's event for one of Holdpoint's own.
        let begins = |name: &str, with: &str| {
            event.get(name).and_then(Value::as_str).is_some_and(|is| is.starts_with(with))
        };
        if begins("type", "holdpoint.") || begins("source", "/holdpoint/") {
            let message = "an event's `type` does not begin with `holdpoint.`, nor its `source` with `/holdpoint/`: those are Holdpoint's own";
            return Err(Fault::expression(message).into());
        }
        let step = self.step();
        let made = [
            ("id", json!(digest::effect_key(self.turn.pinned.first_run, step))),
            ("specversion", json!("1.0")),
            ("source", json!(format!("/workflows/{}", self.workflow.about.name))),
            ("time", json!(self.turn.now)),
        ];
        for (name, value) in made {
            event.entry(name).or_insert(value);
        }
        let event = Value::Object(event);
        let (json, event) = self.written(&event)?;
        self.push(Entry::EventEmitted(EventEmitted { step, event: json }));
        self.frame_mut(id)?.phase = Phase::Step { step, hidden: ValueRef::Null };
        self.complete(id, event)
    }

    pub(super) fn begin_listen(&mut self, id: FrameId, listen: &Listen) -> Step<()> {
        let count = |consume: &Consume| match consume {
            Consume::One(_) => 1,
            Consume::All(filters) => filters.len(),
            Consume::Any { .. } => 1,
        };
        let until = match &listen.to {
            Consume::Any { until: Some(Until::Consumed(until)), .. } => count(until),
            _ => 0,
        };
        let (met, until_met) = (vec![false; count(&listen.to)], vec![false; until]);
        self.frame_mut(id)?.phase = Phase::Listen(Listening { met, until_met, ..Listening::default() });
        Ok(())
    }

    /// Whether there is an event that was not offered to it, or one to go through, or its end.
    pub(super) fn can_listen(&self, frame: &Frame, listening: &Listening) -> bool {
        let goes_through = || {
            let task = self.task_of(frame).ok();
            task.is_some_and(|task| matches!(&task.work, Work::Listen(listen) if listen.each.is_some()))
        };
        !listening.at_work
            && (listening.over
                || listening.offered < self.turn.run.signals.len()
                || (listening.outputs.len() < listening.taken.len() && goes_through()))
    }

    /// One event is offered, or what was consumed is gone through.
    pub(super) fn listen(&mut self, id: FrameId, mut listening: Listening) -> Step<()> {
        let task = self.task(id)?;
        let listen = listen_of(&task)?;
        if let Some(each) = &listen.each
            && listening.outputs.len() < listening.taken.len()
        {
            return self.begin_each(id, listen, each, listening);
        }
        if listening.over {
            let output = self.heard(listen, &listening)?;
            return self.complete(id, Arc::new(output));
        }
        let place = listening.offered;
        listening.offered += 1;
        if !self.state.consumed.contains(&place)
            && let Some(event) = self.turn.run.signals.get(place).map(|signal| read(signal.event.get()))
        {
            self.offer(id, listen, &mut listening, place, &event)?;
        }
        self.frame_mut(id)?.phase = Phase::Listen(listening);
        Ok(())
    }

    fn offer(
        &mut self,
        id: FrameId,
        listen: &Listen,
        listening: &mut Listening,
        place: usize,
        event: &Value,
    ) -> Step<()> {
        if let Consume::Any { until: Some(Until::Consumed(until)), .. } = &listen.to
            && let Some(met) = self.fitting(id, until, &listening.until_met.clone(), listening, event)?
        {
            self.state.consumed.insert(place);
            listening.until_met[met] = true;
            listening.over = listening.until_met.iter().all(|met| *met);
            return Ok(());
        }
        let Some(met) = self.fitting(id, &listen.to, &listening.met.clone(), listening, event)? else {
            return Ok(());
        };
        self.state.consumed.insert(place);
        listening.taken.push(place);
        listening.over = match &listen.to {
            Consume::One(_) | Consume::Any { until: None, .. } => true,
            Consume::All(_) => {
                listening.met[met] = true;
                listening.met.iter().all(|met| *met)
            }
            Consume::Any { until: Some(Until::Holds(holds)), .. } => {
                let events = self.events(listen, &listening.taken);
                let scope = self.scope(id)?;
                self.holds(holds, &Value::Array(events), &scope)?
            }
            Consume::Any { until: Some(_), .. } => false,
        };
        Ok(())
    }

    /// The first filter without an event that this one fits.
    fn fitting(
        &mut self,
        id: FrameId,
        consume: &Consume,
        met: &[bool],
        listening: &mut Listening,
        event: &Value,
    ) -> Step<Option<usize>> {
        let filters = match consume {
            Consume::One(filter) => std::slice::from_ref(filter),
            Consume::All(filters) => filters,
            Consume::Any { filters, .. } if filters.is_empty() => return Ok(Some(0)),
            Consume::Any { filters, .. } => {
                for filter in filters {
                    if self.fits(id, filter, listening, event)? {
                        return Ok(Some(0));
                    }
                }
                return Ok(None);
            }
        };
        for (at, filter) in filters.iter().enumerate() {
            if !met.get(at).copied().unwrap_or(true) && self.fits(id, filter, listening, event)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    fn fits(
        &mut self,
        id: FrameId,
        filter: &EventFilter,
        listening: &mut Listening,
        event: &Value,
    ) -> Step<bool> {
        let scope = self.scope(id)?;
        // Constants first: an expression is about events of the kind that they name.
        let (computed, constant): (Vec<_>, Vec<_>) =
            filter.with.iter().partition(|(_, template)| !matches!(template, Template::Constant(_)));
        for (name, template) in constant.into_iter().chain(computed) {
            let had = event.get(name).unwrap_or(&Value::Null);
            let wanted = match self.fill(template, had, &scope) {
                // An event that an expression cannot be asked about is another event.
                Err(Halt::Fault(_)) => return Ok(false),
                filled => filled?,
            };
            let holds = match template {
                Template::Expression(_) => wanted == Value::Bool(true),
                _ => describes(&wanted, had),
            };
            if !holds && wanted != *had {
                return Ok(false);
            }
        }
        let mut first = Vec::new();
        for (name, correlation) in &filter.correlate {
            let value = self.evaluate(&correlation.from, event, &scope)?;
            let expected = match (&correlation.expect, listening.correlated.get(name)) {
                (Some(expect), _) => self.fill(expect, self.input(id)?.as_ref(), &scope)?,
                (None, Some(known)) => self.value(*known)?.as_ref().clone(),
                (None, None) => {
                    first.push((name.clone(), value));
                    continue;
                }
            };
            if value != expected {
                return Ok(false);
            }
        }
        for (name, value) in first {
            let value = self.store(&value)?;
            listening.correlated.insert(name, value);
        }
        Ok(true)
    }

    fn events(&self, listen: &Listen, taken: &[usize]) -> Vec<Value> {
        let signals = taken.iter().filter_map(|place| self.turn.run.signals.get(*place));
        signals.map(|signal| what_is_read(listen.read, read(signal.event.get()))).collect()
    }

    fn heard(&self, listen: &Listen, listening: &Listening) -> Step<Value> {
        if listen.each.is_none() {
            return Ok(Value::Array(self.events(listen, &listening.taken)));
        }
        let values = listening.outputs.iter().map(|output| Ok(self.value(*output)?.as_ref().clone()));
        Ok(Value::Array(values.collect::<Step<_>>()?))
    }

    fn begin_each(
        &mut self,
        id: FrameId,
        listen: &Listen,
        each: &ForEachEvent,
        mut listening: Listening,
    ) -> Step<()> {
        let index = listening.outputs.len();
        let event = self.events(listen, &listening.taken[index..=index]).pop().unwrap_or_default();
        let item = self.store(&event)?;
        listening.at_work = true;
        let frame = self.frame_mut(id)?;
        frame.begun = 0;
        frame.variables.insert(each.item.clone(), item);
        frame.variables.insert(each.at.clone(), ValueRef::Number(index as u64));
        frame.phase = Phase::Listen(listening);
        if each.body.is_empty() {
            return self.each_over(id, item);
        }
        self.start(Some(id), Section::Each, 0, item).map(drop)
    }

    /// The tasks of `foreach` are over for one event.
    pub(super) fn each_over(&mut self, id: FrameId, output: ValueRef) -> Step<()> {
        let task = self.task(id)?;
        let Some(each) = &listen_of(&task)?.each else { return Err(lost("events")) };
        let raw = self.value(output)?;
        let scope = self.scope(id)?;
        let (made, scope) = self.filter_out(&each.output, Arc::clone(&raw), scope)?;
        self.export(&each.export, &made, &scope)?;
        let output = if each.output.transform.is_some() { self.store(&made)? } else { output };
        let Phase::Listen(listening) = &mut self.frame_mut(id)?.phase else { return Err(lost("events")) };
        listening.at_work = false;
        listening.outputs.push(output);
        Ok(())
    }
}

/// What a compiled pattern may take.
const PATTERN_BYTES: usize = 256 * 1024;

/// Whether a text of the author's is a regular expression that the whole attribute satisfies. One
/// without a special character but `.` is meant as it stands.
fn describes(wanted: &Value, had: &Value) -> bool {
    let (Some(wanted), Some(had)) = (wanted.as_str(), had.as_str()) else { return false };
    if !wanted.contains(['*', '+', '?', '[', '(', '{', '|', '^', '$', '\\']) {
        return false;
    }
    let pattern = RegexBuilder::new(&format!("^(?:{wanted})$")).size_limit(PATTERN_BYTES).build();
    pattern.is_ok_and(|pattern| pattern.is_match(had))
}

fn listen_of(task: &Task) -> Step<&Listen> {
    match &task.work {
        Work::Listen(listen) => Ok(listen),
        _ => Err(lost("a listener")),
    }
}

fn what_is_read(read: Read, mut event: Value) -> Value {
    match read {
        Read::Envelope => event,
        Read::Data => event.get_mut("data").map(Value::take).unwrap_or_default(),
        Read::Raw => {
            let found = if event.get("data").is_some() { "data" } else { "data_base64" };
            event.get_mut(found).map(Value::take).unwrap_or_default()
        }
    }
}
