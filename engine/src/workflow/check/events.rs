//! `emit` and `listen`.

use std::collections::BTreeMap;

use super::expressions::{Locals, Moment, Scope, enclosed};
use super::spot::Spot;
use super::{Checker, Maybe, flip};
use crate::workflow::document::{Consume, Correlation, EventFilter, ForEachEvent, Listen, Read, Until, Work};
use crate::workflow::expression::Template;
use crate::workflow::read::{Kind, cut};

/// The attributes that CloudEvents define; others are extensions.
const TEXTS: [&str; 6] = ["id", "source", "type", "subject", "datacontenttype", "dataschema"];

impl<'n> Checker<'n, '_> {
    pub(super) fn emit(&mut self, task: &Spot<'n>, locals: &Locals) -> Option<Work> {
        let spot = task.get("emit")?;
        self.object(&spot, "`emit`", &["event"])?;
        let event = self.required(&spot, "event")?;
        self.object(&event, "`event`", &["with"])?;
        let with = self.required(&event, "with")?;
        self.attributes(&with, true)?;
        let missing: Vec<_> = ["source", "type"].map(|key| self.required(&with, key)).into();
        let template = self.template(&with, locals.at(Moment::During));
        missing.into_iter().collect::<Option<Vec<_>>>()?;
        template.map(Work::Emit)
    }

    /// An event's attributes: names as CloudEvents have them, texts where they are texts.
    fn attributes(&mut self, spot: &Spot<'n>, is_emitted: bool) -> Option<()> {
        if !matches!(spot.node.kind, Kind::Map(_)) {
            return self.expected(spot, "an object of an event's attributes");
        }
        let mut fits = Some(());
        for member in spot.members() {
            let found = spot.member(member);
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            if member.key.is_empty() || member.key.len() > 64 || !member.key.bytes().all(plain) {
                let message = format!(
                    "`{}`: an attribute's name is lower-case letters and digits, as CloudEvents have them",
                    cut(&member.key)
                );
                fits = self.refuse(found.wrong_key(message));
            } else if TEXTS.contains(&member.key.as_str()) || member.key == "time" {
                fits = self.text(&found).and(fits);
            } else if member.key != "data"
                && !matches!(found.node.kind, Kind::Text(_) | Kind::Number(_) | Kind::Bool(_))
            {
                fits = self.expected(&found, "a text, a number, `true` or `false`");
            }
            if is_emitted && member.key == "time" && found.text().is_some() {
                fits = self.moment(&found).and(fits);
            }
        }
        fits
    }

    fn moment(&mut self, spot: &Spot<'n>) -> Option<()> {
        let text = self.text(spot)?;
        if enclosed(text).is_some() || crate::time::Timestamp::parse(text).is_some() {
            return Some(());
        }
        self.expected(spot, "a time as RFC 3339 writes it, or an expression `${ … }`")
    }

    pub(super) fn listen(&mut self, task: &Spot<'n>, locals: &Locals) -> Option<Work> {
        let spot = task.get("listen")?;
        self.object(&spot, "`listen`", &["to", "read"])?;
        let to = self.required(&spot, "to").and_then(|to| self.consume(&to, locals.at(Moment::During), true));
        let read = self.read_as(&spot);
        let each = flip(task.get("foreach").map(|each| self.for_each_event(&each, locals)));
        Some(Work::Listen(Listen { to: to?, read: read?, each: each? }))
    }

    fn read_as(&mut self, parent: &Spot<'n>) -> Option<Read> {
        let Some(spot) = parent.get("read") else { return Some(Read::Data) };
        Some(match self.word(&spot, &["data", "envelope", "raw"])? {
            "envelope" => Read::Envelope,
            "raw" => Read::Raw,
            _ => Read::Data,
        })
    }

    /// `one`, `all` or `any`; the events of an `until` have no `until` of their own.
    fn consume(&mut self, spot: &Spot<'n>, scope: Scope<'_>, may_end: bool) -> Option<Consume> {
        let keys: &[&str] = if may_end { &["one", "all", "any", "until"] } else { &["one", "all", "any"] };
        self.object(spot, "what is listened to", keys)?;
        let given: Vec<&str> =
            ["one", "all", "any"].into_iter().filter(|key| spot.get(key).is_some()).collect();
        let [key] = given[..] else {
            return self.expected(spot, "one of `one`, `all` and `any`");
        };
        let found = spot.get(key)?;
        if let Some(until) = spot.get("until").filter(|_| key != "any") {
            return self.refuse(until.wrong_key(format!("`until` goes with `any`, not with `{key}`")));
        }
        match key {
            "one" => self.event_filter(&found, scope).map(Consume::One),
            "all" => {
                let filters = self.event_filters(&found, scope)?;
                if filters.is_empty() {
                    return self.refuse(found.wrong("no events to wait for"));
                }
                Some(Consume::All(filters))
            }
            _ => {
                let filters = self.event_filters(&found, scope);
                let until = self.until(spot, scope);
                Some(Consume::Any { filters: filters?, until: until? })
            }
        }
    }

    fn until(&mut self, parent: &Spot<'n>, scope: Scope<'_>) -> Maybe<Until> {
        let Some(spot) = parent.get("until") else { return Some(None) };
        if spot.text().is_some() {
            return self.condition(&spot, scope).map(|condition| Some(Until::Holds(condition)));
        }
        self.consume(&spot, scope, false).map(|consume| Some(Until::Consumed(Box::new(consume))))
    }

    fn event_filters(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Vec<EventFilter>> {
        self.list(spot)?;
        let filters: Vec<_> = spot.items().map(|item| self.event_filter(&item, scope)).collect();
        filters.into_iter().collect()
    }

    fn event_filter(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<EventFilter> {
        self.object(spot, "a filter of events", &["with", "correlate"])?;
        let with = self.required(spot, "with").and_then(|with| self.event_members(&with, scope));
        let correlate = match spot.get("correlate") {
            Some(found) => self.correlations(&found, scope),
            None => Some(BTreeMap::new()),
        };
        Some(EventFilter { with: with?, correlate: correlate? })
    }

    fn event_members(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<BTreeMap<String, Template>> {
        self.attributes(spot, false)?;
        if spot.members().is_empty() {
            return self.refuse(spot.wrong("an empty filter: name an attribute, such as `type`"));
        }
        let read: Vec<_> = spot
            .members()
            .iter()
            .map(|member| Some((member.key.clone(), self.template(&spot.member(member), scope)?)))
            .collect();
        read.into_iter().collect()
    }

    fn correlations(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<BTreeMap<String, Correlation>> {
        if !matches!(spot.node.kind, Kind::Map(_)) {
            return self.expected(spot, "an object of named correlations");
        }
        let read: Vec<_> = spot
            .members()
            .iter()
            .map(|member| Some((member.key.clone(), self.correlation(&spot.member(member), scope)?)))
            .collect();
        read.into_iter().collect()
    }

    fn correlation(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Correlation> {
        self.object(spot, "a correlation", &["from", "expect"])?;
        let from = self.required(spot, "from").and_then(|from| self.condition(&from, scope));
        let expect = flip(spot.get("expect").map(|expect| self.template(&expect, scope)));
        Some(Correlation { from: from?, expect: expect? })
    }

    fn for_each_event(&mut self, spot: &Spot<'n>, locals: &Locals) -> Option<ForEachEvent> {
        self.object(spot, "`foreach`", &["item", "at", "do", "output", "export"])?;
        let item = self.variable(spot, "item", "item");
        let at = self.variable(spot, "at", "index");
        if item.is_some() && item == at {
            self.error(spot.wrong("`item` and `at` are the same variable"));
        }
        let inner = locals.with(item.iter().chain(&at));
        let body = match spot.get("do") {
            Some(body) => self.task_list(&body, &inner),
            None => Some(Vec::new().into()),
        };
        let output = self.filter(spot.get("output"), "as", inner.at(Moment::During));
        let export = self.filter(spot.get("export"), "as", inner.at(Moment::Export));
        Some(ForEachEvent { item: item?, at: at?, body: body?, output: output?, export: export? })
    }
}
