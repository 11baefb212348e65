//! `wait`, `timeout`, delays.

use std::time::Duration;

use super::expressions::{Scope, enclosed, object};
use super::spot::Spot;
use super::{Checker, Maybe, flip};
use crate::workflow::document::DurationValue;
use crate::workflow::duration;
use crate::workflow::expression::Template;
use crate::workflow::read::Kind;

impl<'n> Checker<'n, '_> {
    /// A duration: ISO 8601, an object, or an expression.
    pub(super) fn duration(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<DurationValue> {
        match &spot.node.kind {
            Kind::Text(text) => match enclosed(text) {
                Some(source) => self.expression(spot, source, scope).map(DurationValue::Computed),
                None => self.known(spot, duration::of_text(text)).map(DurationValue::Fixed),
            },
            Kind::Map(_) => self.parts(spot, scope),
            _ => self.expected(spot, "a duration such as `PT30S` or {seconds: 30}"),
        }
    }

    /// A duration that is known at registration.
    pub(super) fn fixed_duration(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Duration> {
        match self.duration(spot, scope)? {
            DurationValue::Fixed(duration) => Some(duration),
            _ => self.refuse(spot.wrong("an expression: this duration is a constant")),
        }
    }

    pub(super) fn optional_duration(
        &mut self,
        spot: &Spot<'n>,
        key: &str,
        scope: Scope<'_>,
    ) -> Maybe<DurationValue> {
        flip(spot.get(key).map(|found| self.duration(&found, scope)))
    }

    /// `timeout` of a workflow or a task: `{after}`, or the name of one in `use.timeouts`.
    pub(super) fn timeout(&mut self, parent: &Spot<'n>, scope: Scope<'_>) -> Maybe<DurationValue> {
        let Some(spot) = parent.get("timeout") else { return Some(None) };
        let spot = if spot.text().is_some() { self.used(&spot, "timeouts")? } else { spot };
        self.timeout_after(&spot, scope).map(Some)
    }

    pub(super) fn timeout_after(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<DurationValue> {
        self.object(spot, "a timeout", &["after"])?;
        let after = self.required(spot, "after")?;
        self.duration(&after, scope)
    }

    fn parts(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<DurationValue> {
        let names = ["days", "hours", "minutes", "seconds", "milliseconds"];
        self.object(spot, "a duration", &names)?;
        if spot.members().is_empty() {
            return self.refuse(spot.wrong("an empty duration: write one such as {seconds: 30}"));
        }
        let read: Vec<_> = spot
            .members()
            .iter()
            .map(|member| Some((member, self.part(&spot.member(member), scope)?)))
            .collect();
        let read: Vec<_> = read.into_iter().collect::<Option<_>>()?;
        if read.iter().any(|(member, _)| !names.contains(&member.key.as_str())) {
            return None;
        }
        let named = read.into_iter().map(|(member, part)| (member.key.clone(), part)).collect();
        match object(named) {
            Template::Constant(value) => {
                self.known(spot, duration::of_value(&value)).map(DurationValue::Fixed)
            }
            template => Some(DurationValue::Parts(template)),
        }
    }

    fn part(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Template> {
        if spot.text().is_some_and(|text| enclosed(text).is_some()) {
            return self.template(spot, scope);
        }
        let count = self.whole(spot, 0, u64::MAX)?;
        Some(Template::Constant(count.into()))
    }

    fn known(&mut self, spot: &Spot<'n>, read: Result<Duration, String>) -> Option<Duration> {
        match read {
            Ok(duration) => Some(duration),
            Err(message) => self.refuse(spot.wrong(message)),
        }
    }
}
