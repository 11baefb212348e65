//! When a schedule ticks: a pure function of its timing and of a moment. Which of the ticks
//! that are due are carried out is decided here too, so that a clock that jumps, or a long
//! absence, neither doubles a tick nor makes up one.
//!
//! Wall clocks do not go evenly. Where the hours of a cron expression are not all of them,
//! each time of day that it names is one tick: a time that the clock shows twice is taken the
//! first time, one that it leaves out at the moment at which it goes on. Where they are all of
//! them (`*/15 * * * *`), it ticks whenever the clock shows such a time: the hour that is there
//! twice has its ticks twice, and one that is left out has none, as time itself goes on.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Year};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::{ExecutionId, ScheduleId};
use crate::scope::Scope;
use crate::time::{Span, Timestamp};

/// The longest cron expression, in bytes.
pub const CRON_BYTES: usize = 256;
/// The shortest and the longest interval.
pub const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(366 * DAY));
/// The shortest and the longest window in which missed ticks are made up for.
pub const WINDOWS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(DAY));
/// The most ticks that are made up for.
pub const MOST_CAUGHT_UP: u32 = 100;
const DAY: u64 = 24 * 60 * 60;
/// Missed ticks are counted so far.
const COUNTED: i64 = 1_000;

/// When a schedule ticks.
#[derive(Debug, Clone, PartialEq)]
pub enum Timing {
    /// By a cron expression, on the clocks of a time zone.
    Cron(Box<CronTiming>),
    /// At the anchor and so many whole intervals: late passes do not move what comes after.
    Every {
        /// The interval.
        every: Duration,
        /// Where the multiples begin; not a tick itself.
        anchor: Timestamp,
    },
    /// So long after the run before ended: the only timing that depends on runs.
    After(Duration),
}

/// A cron expression that was checked.
#[derive(Debug, Clone, PartialEq)]
pub struct CronTiming {
    /// As it was written.
    pub expression: String,
    zone: Tz,
    cron: Cron,
    /// All hours of the day are named.
    every_hour: bool,
}

impl CronTiming {
    /// Reads an expression that was not taken yet. What stands there to no effect is refused: an
    /// empty place in a list, and a step that is longer than all there is to step through.
    pub fn parse_new(expression: &str, time_zone: &str) -> Result<Self, String> {
        let fields: Vec<&str> = expression.split_whitespace().collect();
        for (field, of) in fields.iter().zip(fields_of(fields.len()).into_iter().flatten()) {
            let too_long = |step: &str| step.parse().is_ok_and(|step: u64| step > of.values);
            for part in field.split(',') {
                if part.is_empty() {
                    return Err(of.refuse(field));
                }
                if part.split_once('/').is_some_and(|(_, step)| too_long(step)) {
                    return Err(format!("`{part}` is no {}: a step may be 1 to {}", of.name, of.values));
                }
            }
        }
        Self::parse(expression, time_zone)
    }

    /// Reads five fields (minute, hour, day of month, month, day of week), six (a second before
    /// them) or `@hourly`, `@daily` (`@midnight`), `@weekly`, `@monthly`, `@yearly`.
    pub fn parse(expression: &str, time_zone: &str) -> Result<Self, String> {
        if expression.len() > CRON_BYTES {
            return Err(format!("a cron expression may have {CRON_BYTES} bytes"));
        }
        let zone = parse_zone(time_zone)?;
        let known = if expression.trim().eq_ignore_ascii_case("@midnight") { "@daily" } else { expression };
        let cron = parser().parse(known).map_err(|_| what_is_wrong(expression))?;
        let every_hour = (0..24).all(|hour| cron.pattern.hour_match(hour).unwrap_or(false));
        let timing = Self { expression: expression.to_owned(), zone, cron, every_hour };
        // 2000 to 2100 has every kind of year: what does not come then never comes.
        match timing.next(Timestamp::from_micros(946_684_800_000_000)) {
            Some(first) if first.micros() < 4_102_444_800_000_000 => Ok(timing),
            _ => Err(format!("`{expression}` names a date that never comes")),
        }
    }

    /// The zone's name.
    pub fn time_zone(&self) -> &'static str {
        self.zone.name()
    }

    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let from = DateTime::<Utc>::from_timestamp_micros(after.micros())?.with_timezone(&self.zone);
        if self.every_hour {
            let found = self.cron.find_next_occurrence(&from, false).ok()?;
            return Some(Timestamp::from_micros(found.timestamp_micros()));
        }
        let mut wall = from.naive_local();
        // A clock that goes back shows at most a day twice, and a second has one tick.
        for _ in 0..=DAY {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            let at = self.shown_first(wall)?;
            if at > from {
                return Some(Timestamp::from_micros(at.timestamp_micros()));
            }
        }
        None
    }

    /// The first moment at which the zone's clock shows this, or has gone past it.
    fn shown_first(&self, wall: NaiveDateTime) -> Option<DateTime<Tz>> {
        let at = |seconds: i64| {
            let wall = wall.checked_add_signed(TimeDelta::try_seconds(seconds)?)?;
            Some(self.zone.from_local_datetime(&wall))
        };
        if let LocalResult::Single(found) | LocalResult::Ambiguous(found, _) = at(0)? {
            return Some(found);
        }
        // No clock goes on by more than a day: between the two lies the end of what is left out.
        let (mut left_out, mut shown) = (0, 2 * DAY as i64);
        while shown - left_out > 1 {
            let middle = left_out + (shown - left_out) / 2;
            if matches!(at(middle)?, LocalResult::None) { left_out = middle } else { shown = middle }
        }
        at(shown)?.earliest()
    }
}

fn parser() -> CronParser {
    CronParser::builder().year(Year::Disallowed).build()
}

/// An IANA name.
pub fn parse_zone(name: &str) -> Result<Tz, String> {
    let shown: String = name.chars().take(64).collect();
    name.parse().map_err(|_| {
        format!("`{shown}` is not a time zone: write a name of the IANA database, such as `Europe/Berlin` or `UTC`")
    })
}

/// A field of an expression.
struct Field {
    name: &'static str,
    may_be: &'static str,
    /// How many values it has.
    values: u64,
}

impl Field {
    const fn new(name: &'static str, may_be: &'static str, values: u64) -> Self {
        Self { name, may_be, values }
    }

    fn refuse(&self, given: &str) -> String {
        format!(
            "`{given}` is no {}: it may be {}, `*`, a range such as `1-5`, a list such as `1,3`, a step such as `*/2`",
            self.name, self.may_be
        )
    }
}

/// The fields of an expression with six, and what each may be.
const FIELDS: [Field; 6] = [
    Field::new("second", "0 to 59", 60),
    Field::new("minute", "0 to 59", 60),
    Field::new("hour", "0 to 23", 24),
    Field::new("day of month", "1 to 31, `L` for the last day or `15W` for the weekday nearest to a day", 31),
    Field::new("month", "1 to 12 or JAN to DEC", 12),
    Field::new("day of week", "0 to 7 or SUN to SAT (0 and 7 are Sunday), `FRI#2` or `FRI#L`", 7),
];

/// Those of an expression with so many.
fn fields_of(count: usize) -> Option<&'static [Field]> {
    match count {
        5 => Some(&FIELDS[1..]),
        6 => Some(&FIELDS[..]),
        _ => None,
    }
}

/// Names the first field that cannot be read by itself.
fn what_is_wrong(expression: &str) -> String {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let Some(names) = fields_of(fields.len()) else {
        let count = fields.len();
        return format!(
            "`{expression}` has {count} field{}: write five (minute, hour, day of month, month, day of week), six with a second before them, or one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly",
            if count == 1 { "" } else { "s" }
        );
    };
    for (at, (field, of)) in fields.iter().zip(names).enumerate() {
        let mut alone = vec!["*"; fields.len()];
        alone[at] = field;
        if parser().parse(&alone.join(" ")).is_err() {
            return of.refuse(field);
        }
    }
    format!("`{expression}` is not a cron expression")
}

impl Timing {
    /// The first tick after this moment; none where it waits for a run's end, or at the end of
    /// time.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let next = match self {
            Timing::Cron(cron) => cron.next(after),
            Timing::Every { every, anchor } => multiple_after(*every, *anchor, after),
            Timing::After(_) => None,
        };
        next.filter(|next| *next > after)
    }

    /// The next few ticks after this moment.
    pub fn upcoming(&self, after: Timestamp, count: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next(after), |last| self.next(*last)).take(count).collect()
    }

    /// The first tick of a schedule that is made, or goes on, now.
    pub fn first(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Timing::After(after) => Some(now.plus(*after)),
            _ => self.next(now),
        }
    }

    /// Ticks from the first to before the second moment, counted up to a thousand.
    fn count(&self, from: Timestamp, to: Timestamp) -> i64 {
        if let Timing::Every { every, .. } = self {
            let ticks = from.until(to).as_micros().div_ceil(every.as_micros().max(1));
            return i64::try_from(ticks).unwrap_or(i64::MAX);
        }
        let ticks = std::iter::successors(Some(from), |last| self.next(*last));
        ticks.take(COUNTED as usize).take_while(|tick| *tick < to).count() as i64
    }
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX / 4)
}

fn multiple_after(every: Duration, anchor: Timestamp, after: Timestamp) -> Option<Timestamp> {
    let each = micros(every).max(1);
    let passed = after.micros().checked_sub(anchor.micros())?.div_euclid(each).max(0);
    let next = passed.checked_add(1)?.checked_mul(each)?.checked_add(anchor.micros())?;
    Some(Timestamp::from_micros(next))
}

/// Which missed ticks are made up for: the latest of those that were due within the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatchUp {
    /// How late a tick may be; one minute if left out, from 10 seconds to a day.
    #[serde(default = "default_window")]
    pub window: Span,
    /// At most so many of them; one if left out, 100 at most.
    #[serde(default = "default_limit")]
    pub limit: u32,
}

fn default_window() -> Span {
    Span::secs(60)
}

fn default_limit() -> u32 {
    1
}

impl Default for CatchUp {
    fn default() -> Self {
        Self { window: default_window(), limit: default_limit() }
    }
}

impl CatchUp {
    /// Whether both are within their bounds; else which is not, and what it may be.
    pub fn check(&self) -> Result<(), String> {
        if self.window.0 < WINDOWS.0 || self.window.0 > WINDOWS.1 {
            return Err(format!("`window` is {}: it may be 10s to 1d", self.window));
        }
        if !(1..=MOST_CAUGHT_UP).contains(&self.limit) {
            return Err(format!("`limit` is {}: it may be 1 to {MOST_CAUGHT_UP}", self.limit));
        }
        Ok(())
    }
}

/// Whether an interval is within its bounds; else what it may be.
pub fn check_interval(length: Duration) -> Result<(), String> {
    if length < INTERVALS.0 || length > INTERVALS.1 {
        return Err(format!("is {}: it may be 1s to 366d", Span(length)));
    }
    Ok(())
}

/// What a pass does about a schedule that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The tick to carry out.
    pub run: Option<Timestamp>,
    /// Ticks that are passed over because they are too late, or too many; counted up to a
    /// thousand where each has to be looked for.
    pub missed: i64,
    /// The tick after it; it may be due already.
    pub next: Option<Timestamp>,
}

/// Decides about a schedule whose tick `due` has come. A schedule whose run ends first is
/// never too late.
pub fn plan(timing: &Timing, catch_up: CatchUp, due: Timestamp, now: Timestamp) -> Plan {
    if matches!(timing, Timing::After(_)) {
        return Plan { run: Some(due), missed: 0, next: None };
    }
    let horizon = Timestamp::from_micros(now.micros().saturating_sub(micros(catch_up.window.0)));
    let in_time = due >= horizon;
    let mut missed = if in_time { 0 } else { timing.count(due, horizon) };
    let before = Timestamp::from_micros(horizon.micros().saturating_sub(1));
    let first = if in_time { Some(due) } else { timing.next(before) };
    let mut kept = VecDeque::new();
    let ticks = std::iter::successors(first, |last| timing.next(*last));
    for tick in ticks.take_while(|tick| *tick <= now) {
        kept.push_back(tick);
        if kept.len() > catch_up.limit as usize {
            kept.pop_front();
            missed += 1;
        }
    }
    match kept.front() {
        Some(run) => Plan { run: Some(*run), missed, next: timing.next(*run) },
        None => Plan { run: None, missed, next: first },
    }
}

/// The id of the schedule that a version of a workflow brings first.
pub fn own_id(scope: &Scope, workflow: &str, version: i32, now: Timestamp) -> ScheduleId {
    let mut hasher = Sha256::new();
    hasher.update(b"holdpoint schedule");
    // None of the three names has a slash.
    hasher.update(format!("{scope}/{workflow}/{version}").as_bytes());
    let mut random = [0; 10];
    random.copy_from_slice(&hasher.finalize()[..10]);
    let millis = u64::try_from(now.micros() / 1_000).unwrap_or(0);
    ScheduleId(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
}

/// The id of the execution that a tick makes: of the tick's time, and of the SHA-256 over
/// schedule and tick, so that it is the same for everybody who carries the tick out.
pub fn tick_id(schedule: ScheduleId, tick: Timestamp) -> ExecutionId {
    let mut hasher = Sha256::new();
    hasher.update(b"holdpoint tick");
    hasher.update(schedule.0.as_bytes());
    hasher.update(tick.micros().to_be_bytes());
    let digest = hasher.finalize();
    let mut random = [0; 10];
    random.copy_from_slice(&digest[..10]);
    let millis = u64::try_from(tick.micros() / 1_000).unwrap_or(0);
    ExecutionId(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
}
