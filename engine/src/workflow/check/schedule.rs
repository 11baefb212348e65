//! `schedule`.

use super::Checker;
use super::expressions::{Locals, Moment};
use super::spot::Spot;
use crate::schedule::{CronTiming, check_interval};
use crate::workflow::document::Schedule;

const KEYS: [&str; 4] = ["every", "cron", "after", "on"];

impl<'n> Checker<'n, '_> {
    /// Exactly one of `every`, `cron` and `after`.
    pub(super) fn schedule(&mut self, spot: &Spot<'n>, zone: Option<&str>) -> Option<Schedule> {
        self.object(spot, "a schedule", &KEYS)?;
        if let Some(on) = spot.get("on") {
            let message =
                "`schedule.on` is not carried: start the workflow by HTTP or AMQP when the event comes";
            return self.refuse(on.wrong_key(message));
        }
        let given: Vec<&str> = spot.members().iter().map(|member| member.key.as_str()).collect();
        let [key] = given[..] else {
            let message =
                format!("a schedule has one of `every`, `cron` and `after`, this has {}", given.len());
            return self.refuse(spot.wrong(message));
        };
        let found = spot.get(key)?;
        match key {
            "cron" => self.cron(&found, zone.filter(|zone| !zone.is_empty()).unwrap_or("UTC")),
            "every" => self.interval(&found).map(Schedule::Every),
            "after" => self.interval(&found).map(Schedule::After),
            _ => None,
        }
    }

    fn cron(&mut self, spot: &Spot<'n>, time_zone: &str) -> Option<Schedule> {
        let expression = self.text(spot)?;
        let read = if self.is_new() { CronTiming::parse_new } else { CronTiming::parse };
        match read(expression, time_zone) {
            Ok(_) => {
                Some(Schedule::Cron { expression: expression.to_owned(), time_zone: time_zone.to_owned() })
            }
            Err(message) => self.refuse(spot.wrong(message)),
        }
    }

    fn interval(&mut self, spot: &Spot<'n>) -> Option<std::time::Duration> {
        let locals = Locals::default();
        let length = self.fixed_duration(spot, locals.at(Moment::WorkflowInput))?;
        match check_interval(length) {
            Ok(()) => Some(length),
            Err(message) => self.refuse(spot.wrong(message)),
        }
    }
}
