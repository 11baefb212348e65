//! `metadata.holdpoint` of a task that calls: what an unknown outcome means, how often it is
//! tried, and who is asked.

use super::Checker;
use super::expressions::{Locals, Moment};
use super::flip;
use super::spot::Spot;
use crate::definition::Retry;
use crate::status::EffectClass;
use crate::workflow::document::Performance;

/// The class where the author names none.
pub(super) enum Default {
    /// It follows from the HTTP method.
    ByMethod,
    /// Always this one.
    Is(EffectClass),
}

impl<'n> Checker<'n, '_> {
    pub(super) fn performance(
        &mut self,
        task: &Spot<'n>,
        locals: &Locals,
        default: Default,
    ) -> Option<Performance> {
        let class = match default {
            Default::ByMethod => None,
            Default::Is(class) => Some(class),
        };
        let mut performance = Performance { class, ..Performance::default() };
        if locals.is_retried {
            // The author's `retry` is the only one.
            performance.retry.tries = 1;
        }
        let Some(spot) = self.own_metadata(task)? else { return Some(performance) };
        self.object(&spot, "`holdpoint` of a task", &["effect", "retry", "reconcile"])?;
        let class = flip(spot.get("effect").map(|effect| self.effect_class(&effect)));
        let retry = flip(spot.get("retry").map(|retry| self.tries(&retry)));
        let reconcile =
            flip(spot.get("reconcile").map(|found| self.http_call(&found, locals.at(Moment::During))));
        performance.class = class?.or(performance.class);
        performance.retry = retry?.unwrap_or(performance.retry);
        performance.reconcile = reconcile?.map(Box::new);
        Some(performance)
    }

    fn effect_class(&mut self, spot: &Spot<'n>) -> Option<EffectClass> {
        let words: Vec<&'static str> = EffectClass::ALL.iter().map(|class| class.as_str()).collect();
        self.word(spot, &words)?.parse().ok()
    }

    fn tries(&mut self, spot: &Spot<'n>) -> Option<Retry> {
        self.object(spot, "`retry`", &["tries", "first_delay", "max_delay"])?;
        match serde_json::from_value::<Retry>(spot.node.to_value()) {
            Ok(retry) if (1..=20).contains(&retry.tries) => Some(retry),
            Ok(retry) => self.refuse(spot.wrong(format!("`tries` is {}: it may be 1 to 20", retry.tries))),
            Err(error) => self.refuse(spot.wrong(error.to_string())),
        }
    }
}
