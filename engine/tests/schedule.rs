//! When schedules tick: tables of known moments, and properties over zones and years.

use std::time::Duration;

use holdpoint_engine::ids::ScheduleId;
use holdpoint_engine::schedule::{CatchUp, CronTiming, Plan, Timing, plan, tick_id};
use holdpoint_engine::time::{Span, Timestamp};

const HOUR: u64 = 3_600;
const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Asia/Kolkata",
    "Africa/Casablanca",
];

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect(text)
}

fn cron(expression: &str, zone: &str) -> Timing {
    Timing::Cron(Box::new(CronTiming::parse(expression, zone).expect(expression)))
}

fn every(seconds: u64, anchor: &str) -> Timing {
    Timing::Every { every: Duration::from_secs(seconds), anchor: at(anchor) }
}

/// The ticks after a moment, as UTC without fractions.
fn ticks(timing: &Timing, after: &str, count: usize) -> Vec<String> {
    let ticks = timing.upcoming(at(after), count);
    ticks.iter().map(|tick| tick.to_string().replace(".000000Z", "Z")).collect()
}

#[test]
fn a_time_that_the_clock_leaves_out_is_at_the_shift() {
    // Berlin, 2026-03-29: 02:00 CET is 03:00 CEST, at 01:00 UTC.
    assert_eq!(
        ticks(&cron("30 2 * * *", "Europe/Berlin"), "2026-03-28T00:00:00Z", 3),
        ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    // Several that are left out are one tick; 03:00 itself is the same moment.
    assert_eq!(
        ticks(&cron("0,20,40 2,3 * * *", "Europe/Berlin"), "2026-03-29T00:00:00Z", 3),
        ["2026-03-29T01:00:00Z", "2026-03-29T01:20:00Z", "2026-03-29T01:40:00Z"]
    );
    // Cairo's day of 2024-04-26 began at 01:00.
    assert_eq!(
        ticks(&cron("@daily", "Africa/Cairo"), "2024-04-25T00:00:00Z", 2),
        ["2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z"]
    );
    // Samoa had no 30 December 2011 at all.
    assert_eq!(
        ticks(&cron("0 12 * * *", "Pacific/Apia"), "2011-12-29T00:00:00Z", 3),
        ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"]
    );
}

#[test]
fn a_time_that_the_clock_shows_twice_is_taken_once() {
    // Berlin, 2026-10-25: 03:00 CEST is 02:00 CET, at 01:00 UTC.
    assert_eq!(
        ticks(&cron("30 2 * * *", "Europe/Berlin"), "2026-10-24T02:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    assert_eq!(
        ticks(&cron("0 */2 * * *", "Europe/Berlin"), "2026-10-24T22:00:00Z", 3),
        ["2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z", "2026-10-25T05:00:00Z"]
    );
    // Asked in the second of the two hours, the first is over.
    assert_eq!(
        ticks(&cron("45 2 * * *", "Europe/Berlin"), "2026-10-25T01:10:00Z", 1),
        ["2026-10-26T01:45:00Z"]
    );
}

#[test]
fn what_ticks_every_hour_goes_on_as_time_does() {
    let quarters = cron("*/15 * * * *", "Europe/Berlin");
    for day in ["2026-03-28T22:59:59Z", "2026-10-24T21:59:59Z"] {
        let found = quarters.upcoming(at(day), 40);
        assert!(found.windows(2).all(|two| two[0].until(two[1]) == Duration::from_secs(900)), "{day}");
    }
    // Half past two is left out, and is not made up for: the next is an hour later, as ever.
    assert_eq!(
        ticks(&cron("30 * * * *", "Europe/Berlin"), "2026-03-29T00:00:00Z", 2),
        ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]
    );
}

#[test]
fn calendars_have_their_corners() {
    assert_eq!(
        ticks(&cron("0 0 29 2 *", "UTC"), "2026-01-01T00:00:00Z", 2),
        ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]
    );
    assert_eq!(
        ticks(&cron("0 12 L * *", "UTC"), "2027-12-31T12:00:00Z", 2),
        ["2028-01-31T12:00:00Z", "2028-02-29T12:00:00Z"]
    );
    assert_eq!(
        ticks(&cron("15 30 9 * * MON-FRI", "UTC"), "2026-11-20T09:30:15Z", 2),
        ["2026-11-23T09:30:15Z", "2026-11-24T09:30:15Z"]
    );
    // The 13th of November 2026 is a Friday; both given mean either of them.
    assert_eq!(
        ticks(&cron("0 0 13 11 MON", "UTC"), "2026-11-09T00:00:00Z", 3),
        ["2026-11-13T00:00:00Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"]
    );
    // The 15th is a Sunday.
    assert_eq!(ticks(&cron("0 0 15W 11 *", "UTC"), "2026-11-01T00:00:00Z", 1), ["2026-11-16T00:00:00Z"]);
    assert_eq!(ticks(&cron("0 0 * 11 FRI#2", "UTC"), "2026-11-01T00:00:00Z", 1), ["2026-11-13T00:00:00Z"]);
    assert_eq!(ticks(&cron("0 0 * 11 FRI#L", "UTC"), "2026-11-01T00:00:00Z", 1), ["2026-11-27T00:00:00Z"]);
    for (short, long) in [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
    ] {
        let of = |text| ticks(&cron(text, "America/New_York"), "2026-02-27T13:00:00Z", 30);
        assert_eq!(of(short), of(long));
    }
}

/// On either side of every change of clock of these years, and far from it.
#[test]
fn ticks_go_forward_and_are_the_same_from_wherever_one_asks() {
    for zone in ZONES {
        for expression in
            ["30 2 * * *", "*/20 * * * *", "0 */3 * * *", "0 59 1,2 * * *", "5 0 1 * *", "@weekly"]
        {
            let timing = cron(expression, zone);
            for year in [2025, 2026, 2027, 2028] {
                for day in ["03-08", "03-28", "04-04", "10-03", "10-24", "10-31"] {
                    let from = at(&format!("{year}-{day}T20:00:00Z"));
                    let found = timing.upcoming(from, 30);
                    assert_eq!(found.len(), 30, "{expression} in {zone}");
                    assert!(found[0] > from && found.windows(2).all(|two| two[0] < two[1]));
                    // From any moment before a tick, that tick is the next: none is jumped over.
                    for two in found.windows(2) {
                        let middle = two[0].plus(two[0].until(two[1]) / 2);
                        let just_before = two[0].plus(two[0].until(two[1]) - Duration::from_micros(1));
                        for asked in [two[0], middle, just_before] {
                            assert_eq!(timing.next(asked), Some(two[1]), "{expression} in {zone} at {asked}");
                        }
                    }
                }
            }
        }
    }
}

/// Each local day has its tick once, in every zone, whatever its clocks do.
#[test]
fn a_daily_tick_comes_once_on_each_of_a_thousand_days() {
    for zone in ZONES {
        for expression in ["30 2 * * *", "0 0 * * *", "10 2 * * *"] {
            let found = cron(expression, zone).upcoming(at("2025-01-01T12:00:00Z"), 1_000);
            for two in found.windows(2) {
                let between = two[0].until(two[1]).as_secs();
                assert!((22 * HOUR..=26 * HOUR).contains(&between), "{expression} in {zone}: {}", two[1]);
            }
            let days = found[0].until(found[999]).as_secs_f64() / (24.0 * 3_600.0);
            assert!((days - 999.0).abs() < 0.1, "{expression} in {zone}: {days}");
        }
    }
}

#[test]
fn intervals_are_multiples_of_their_anchor() {
    let timing = every(90, "2026-11-21T12:00:00.25Z");
    assert_eq!(timing.first(at("2026-11-21T12:00:00.25Z")), Some(at("2026-11-21T12:01:30.25Z")));
    // However late one looks, the ticks stay where they are.
    assert_eq!(timing.next(at("2026-11-21T12:04:40Z")), Some(at("2026-11-21T12:06:00.25Z")));
    assert_eq!(timing.next(at("2020-01-01T00:00:00Z")), Some(at("2026-11-21T12:01:30.25Z")));
}

fn catch_up(seconds: u64, limit: u32) -> CatchUp {
    CatchUp { window: Span::secs(seconds), limit }
}

fn shown(plan: Plan) -> (Option<String>, i64, Option<String>) {
    let text = |tick: Timestamp| tick.to_string().replace(".000000Z", "Z").replace("2026-11-21T", "");
    (plan.run.map(text), plan.missed, plan.next.map(text))
}

fn planned(timing: &Timing, bounds: CatchUp, due: &str, now: &str) -> (Option<String>, i64, Option<String>) {
    let of = |time: &str| at(&format!("2026-11-21T{time}Z"));
    shown(plan(timing, bounds, of(due), of(now)))
}

#[test]
fn what_is_too_late_is_missed_and_what_is_not_is_made_up_for() {
    let some = |text: &str| Some(text.to_owned());
    for timing in [every(600, "2026-11-21T00:00:00Z"), cron("*/10 * * * *", "Europe/Berlin")] {
        let default = CatchUp::default();
        assert_eq!(
            planned(&timing, default, "12:10:00", "12:10:01"),
            (some("12:10:00Z"), 0, some("12:20:00Z"))
        );
        // An hour's absence: nothing was due within the last minute.
        assert_eq!(planned(&timing, default, "12:10:00", "13:15:00"), (None, 7, some("13:20:00Z")));
        // Its end is a minute after a tick at most: that one is made up for.
        assert_eq!(
            planned(&timing, default, "12:10:00", "13:10:59"),
            (some("13:10:00Z"), 6, some("13:20:00Z"))
        );
        // Three within an hour: the latest three, one after the other.
        assert_eq!(
            planned(&timing, catch_up(3_600, 3), "12:10:00", "13:15:00"),
            (some("12:50:00Z"), 4, some("13:00:00Z"))
        );
        assert_eq!(
            planned(&timing, catch_up(3_600, 3), "13:00:00", "13:15:00"),
            (some("13:00:00Z"), 0, some("13:10:00Z"))
        );
        assert_eq!(
            planned(&timing, catch_up(3_600, 3), "13:10:00", "13:15:00"),
            (some("13:10:00Z"), 0, some("13:20:00Z"))
        );
    }
    let after = Timing::After(Duration::from_secs(60));
    assert_eq!(planned(&after, CatchUp::default(), "01:00:00", "12:00:00"), (some("01:00:00Z"), 0, None));
    assert_eq!(after.next(at("2026-11-21T12:00:00Z")), None);
    assert_eq!(after.first(at("2026-11-21T12:00:00Z")), Some(at("2026-11-21T12:01:00Z")));
}

#[test]
fn a_year_s_absence_of_a_tick_each_second_is_passed_over_at_once() {
    // What an interval missed is computed; of cron's ticks only so many are counted one by one,
    // besides those within the window.
    let year = 365 * 24 * 60 * 60;
    for (timing, most) in
        [(every(1, "2020-01-01T00:00:00Z"), year), (cron("* * * * * *", "Europe/Berlin"), 1_060)]
    {
        let made = plan(&timing, CatchUp::default(), at("2025-11-21T12:00:00Z"), at("2026-11-21T12:00:00Z"));
        assert_eq!(made.run, Some(at("2026-11-21T12:00:00Z")));
        assert!((1_000..=most).contains(&made.missed), "{}", made.missed);
        assert_eq!(made.next, Some(at("2026-11-21T12:00:01Z")));
    }
}

#[test]
fn what_is_wrong_with_an_expression_is_named() {
    for (expression, expected) in [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("* * * * * * *", "7 fields"),
        ("@fortnightly", "@daily"),
        ("61 * * * *", "`61` is no minute: it may be 0 to 59"),
        ("61 * * * * *", "`61` is no second"),
        ("* 24 * * *", "`24` is no hour: it may be 0 to 23"),
        ("* * 0 * *", "`0` is no day of month"),
        ("* * * 13 *", "`13` is no month"),
        ("* * * * 8", "`8` is no day of week"),
        ("* * * * MOO", "`MOO` is no day of week"),
        ("5-1 * * * *", "`5-1` is no minute"),
        ("*/0 * * * *", "`*/0` is no minute"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6 *", "never comes"),
        (&"1,".repeat(200), "256 bytes"),
        ("\u{1F600} * * * *", "is no minute"),
    ] {
        let message = CronTiming::parse(expression, "UTC").expect_err(expression);
        assert!(message.contains(expected), "{expression}: {message}");
        let message = CronTiming::parse_new(expression, "UTC").expect_err(expression);
        assert!(message.contains(expected), "{expression}: {message}");
    }
    for zone in ["", "Berlin", "+02:00", "Mars/Olympus"] {
        let message = CronTiming::parse("* * * * *", zone).expect_err(zone);
        assert!(message.contains("Europe/Berlin"), "{zone}: {message}");
    }
    let read = CronTiming::parse("0 7 * * *", "America/New_York").expect("good");
    assert_eq!((read.expression.as_str(), read.time_zone()), ("0 7 * * *", "America/New_York"));
}

/// What was taken before goes on ticking as it did.
#[test]
fn what_means_nothing_is_not_taken_any_more() {
    for (expression, expected) in [
        ("*/61 * * * *", "`*/61` is no minute: a step may be 1 to 60"),
        ("*/61 0 * * * *", "`*/61` is no second: a step may be 1 to 60"),
        ("0 */25 * * *", "is no hour: a step may be 1 to 24"),
        ("0 0 */32 * *", "is no day of month"),
        ("0 0 1 1-12/13 *", "is no month"),
        ("0 0 * * */8", "is no day of week"),
        ("1,,2 * * * *", "`1,,2` is no minute: it may be 0 to 59"),
        (", * * * *", "`,` is no minute"),
        ("0 1,2, * * *", "`1,2,` is no hour"),
    ] {
        let message = CronTiming::parse_new(expression, "UTC").expect_err(expression);
        assert!(message.contains(expected), "{expression}: {message}");
        // A field of nothing names no time, and is looked for until the end of the calendar.
        assert!(expression.starts_with(',') || CronTiming::parse(expression, "UTC").is_ok(), "{expression}");
    }
    for good in ["*/60 * * * *", "0 */24 * * *", "1,2 3-5/2 L * FRI#2", "@hourly"] {
        assert!(CronTiming::parse_new(good, "UTC").is_ok(), "{good}");
    }
    for midnight in ["@midnight", "@Midnight"] {
        let read = CronTiming::parse_new(midnight, "UTC").expect("good");
        assert_eq!(read.expression, midnight);
        let timing = Timing::Cron(Box::new(read));
        assert_eq!(timing.next(at("2026-11-21T12:00:00Z")), Some(at("2026-11-22T00:00:00Z")));
    }
}

#[test]
fn catching_up_is_bounded() {
    assert_eq!(serde_json::from_str::<CatchUp>("{}").expect("defaults"), CatchUp::default());
    assert!(serde_json::from_str::<CatchUp>(r#"{"windows": "1m"}"#).is_err());
    for (window, limit, good) in [
        (10, 1, true),
        (86_400, 100, true),
        (9, 1, false),
        (86_401, 1, false),
        (60, 0, false),
        (60, 101, false),
    ] {
        assert_eq!(catch_up(window, limit).check().is_ok(), good, "{window} {limit}");
    }
}

#[test]
fn a_tick_makes_one_execution_and_another_tick_another() {
    let (one, other) = (ScheduleId(uuid::Uuid::from_u128(1)), ScheduleId(uuid::Uuid::from_u128(2)));
    let (first, second) = (at("2026-11-21T12:00:00Z"), at("2026-11-21T12:00:01Z"));
    assert_eq!(tick_id(one, first), tick_id(one, first));
    assert_ne!(tick_id(one, first), tick_id(one, second));
    assert_ne!(tick_id(one, first), tick_id(other, first));
    assert!(tick_id(one, first) < tick_id(one, second), "ids are in the order of time");
}
