//! Expressions by real child processes: what a hostile program may try, and that the next
//! program is none the worse for it.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use holdpoint_engine::workflow::expression::{Evaluator, Expression, ExpressionError};
use holdpoint_perform::expressions::{Expressions, MEMORY_BYTES, Settings};
use holdpoint_tests::poll::{SOON, until_blocking};
use holdpoint_tests::processes::holdpoint_binary;
use serde_json::{Value, json};

const VALUE_BYTES: usize = 256 * 1024;

fn expressions(processes: usize) -> Expressions {
    Expressions::with_program(holdpoint_binary(), &Settings { processes }, VALUE_BYTES)
}

fn evaluate(of: &Expressions, text: &str) -> Result<Value, ExpressionError> {
    of.evaluate(&Expression(text.into()), &json!({"a": {"b": 41}}), &[("context", &json!([1]))])
}

/// What every test asks after it did something to the children.
fn assert_works(of: &Expressions) {
    assert_eq!(evaluate(of, ".a.b + $context[0]"), Ok(json!(42)));
}

fn limit(of: &Expressions, text: &str) -> &'static str {
    let shown: String = text.chars().take(80).collect();
    match evaluate(of, text) {
        Err(ExpressionError::Limit { name, .. }) => name,
        other => panic!("{shown}: {other:?}"),
    }
}

/// A number of a process, such as `VmHWM`, in bytes.
fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}

#[test]
fn values_and_errors_come_through() {
    let of = expressions(1);
    assert_works(&of);
    assert_eq!(evaluate(&of, "empty"), Ok(Value::Null));
    assert_eq!(evaluate(&of, "1, 2"), Err(ExpressionError::Several));
    assert_eq!(evaluate(&of, "error(\"no\")"), Err(ExpressionError::Failed("no".to_owned())));
    assert!(matches!(evaluate(&of, "error(null)"), Err(ExpressionError::Failed(_))));
    assert!(matches!(evaluate(&of, ".a.b.c"), Err(ExpressionError::Failed(_))));
    assert!(matches!(evaluate(&of, "$nothing"), Err(ExpressionError::Invalid(_))));
    assert!(matches!(evaluate(&of, "infinite"), Err(ExpressionError::Failed(_))));
    let null = |text: &str| of.evaluate(&Expression(text.into()), &Value::Null, &[("v", &Value::Null)]);
    assert_eq!(null("[., $v, 1 + 1]"), Ok(json!([null, null, 2])));
    let large = json!("x".repeat(200_000));
    assert_eq!(of.evaluate(&Expression("$v".into()), &large, &[("v", &large)]), Ok(large.clone()));
    assert_eq!(of.idle_processes().len(), 1, "one process did it all");
}

#[test]
fn a_program_is_checked_without_being_run() {
    let of = expressions(1);
    let check = |text: &str, names: &[&str]| of.check(&Expression(text.into()), names);
    assert_eq!(check("def f: f; f | $context", &["context"]), Ok(()));
    assert!(matches!(check("$context", &[]), Err(ExpressionError::Invalid(_))));
    assert!(matches!(check("input", &[]), Err(ExpressionError::Invalid(_))));
    assert!(matches!(check(&"1+".repeat(40_000), &[]), Err(ExpressionError::Invalid(_))));
    assert!(matches!(check(&"[".repeat(60_000), &[]), Err(ExpressionError::Invalid(_))));
    assert_works(&of);
}

#[test]
fn what_takes_too_long_is_ended() {
    let of = expressions(1);
    for text in [
        "def f: f; f",
        "repeat(empty)",
        "limit(1; repeat(empty))",
        "last(range(infinite))",
        "reduce range(1e12) as $i (0; . + $i)",
        "first(range(infinite) | select(. < 0))",
        "last(limit(1e12; repeat(1)))",
        "[range(3e3)] | map(. as $x | [range(3e3)] | map(. * $x) | add) | add",
        "until(false; .)",
        "last(while(true; .))",
        "def f: def g: f; g; f",
        "try repeat(empty) catch .",
        "(\"a\" * 60 + \"b\") as $s | last(range(1e9) | $s | test(\"^(a+)+$\"))",
        "([range(20)] | last(combinations(9)))",
    ] {
        assert_eq!(limit(&of, text), "expression_ms", "{text}");
        assert_works(&of);
    }
}

#[test]
fn what_takes_too_much_memory_or_stack_is_ended() {
    let of = expressions(1);
    for text in [
        "def f: 1 + f; f",
        "def f: [f]; f",
        "\"x\" * 1000000000 | length",
        "\"x\" * 2000000000 | length",
        "reduce range(64) as $i (\"x\"; . + .) | length",
        "(\"[\" * 1000000) | fromjson",
    ] {
        assert_eq!(limit(&of, text), "expression_memory_bytes", "{text}");
        assert_works(&of);
    }
}

/// Which limit ends these first is the machine's to say.
#[test]
fn what_takes_time_and_memory_is_ended_by_one_of_both() {
    let of = expressions(1);
    for text in [
        "[range(1e9)] | length",
        "[limit(1e8; repeat(0))] | length",
        "reduce range(64) as $i ([0]; . + .) | length",
        "def f: f | f; f",
        "reduce range(64) as $i ({}; {a: ., b: .}) | tojson",
        "def f: f, f; f",
        "[recurse(., .)] | length",
        "reduce range(1e6) as $i (0; [.]) | tojson | length",
        "[range(1e5)] | tojson * 1000 | length",
        "reduce range(1e9) as $i ([]; . + [$i]) | length",
        "[range(1e3)] | [combinations(9)] | length",
    ] {
        assert!(["expression_ms", "expression_memory_bytes"].contains(&limit(&of, text)), "{text}");
        assert_works(&of);
    }
}

/// A parser takes stack, too. What it can read is a program like any other.
#[test]
fn a_text_that_is_nested_without_brackets_hurts_nobody() {
    let of = expressions(1);
    for text in [
        format!("{}1", "-".repeat(60_000)),
        format!("1{}", "|1".repeat(30_000)),
        format!("1{}", "+1".repeat(30_000)),
        format!("{}1{}", "if . then 1 else ".repeat(3_000), " end".repeat(3_000)),
        format!("{}1", "def f: ".repeat(9_000)),
        format!(".{}", "[0]".repeat(20_000)),
        format!("{}1", ". as $x | ".repeat(6_000)),
        "\"\\(".repeat(20_000),
    ] {
        let _ = evaluate(&of, &text);
        let _ = of.check(&Expression(text.as_str().into()), &[]);
        assert_works(&of);
    }
}

/// Whatever a program tries, its process never has more than it may.
#[test]
fn no_child_and_not_the_parent_ever_grows_large() {
    let of = expressions(1);
    assert_works(&of);
    let [pid] = of.idle_processes()[..] else { panic!("one child") };
    let (at_first, ours) = (memory(pid, "VmHWM"), memory(std::process::id(), "VmHWM"));
    for text in ["[range(1.5e6)] | length", "\"x\" * 40000000 | length", "[limit(4e6; repeat(1))] | length"] {
        // Nearly all of what it may take; the child ends itself after such a one.
        let _ = evaluate(&of, text);
        for pid in of.idle_processes() {
            let peak = memory(pid, "VmHWM");
            assert!(peak < at_first + MEMORY_BYTES, "{text}: {peak} after {at_first}");
        }
        let _ = evaluate(&of, "[range(1e9)]");
        assert_works(&of);
    }
    let grown = memory(std::process::id(), "VmHWM") - ours;
    assert!(grown < 16 * 1024 * 1024, "the parent grew by {grown} bytes");
}

/// A large program leaves nothing behind: the child that ran it is replaced by a fresh one.
#[test]
fn a_child_that_grew_is_replaced() {
    let of = expressions(1);
    assert_works(&of);
    // Each takes a small part of its time also where the processor is slow.
    for _ in 0..40 {
        assert_eq!(evaluate(&of, "[range(2e5)] | length"), Ok(json!(200_000)));
        assert_works(&of);
        for pid in of.idle_processes() {
            assert!(memory(pid, "VmData") < 80 * 1024 * 1024);
        }
    }
}

#[test]
fn a_result_that_is_too_large_or_too_deep_is_refused() {
    let of = expressions(1);
    assert_eq!(limit(&of, "\"x\" * 300000"), "value_bytes");
    assert_eq!(limit(&of, "[range(100000)]"), "value_bytes");
    assert_eq!(limit(&of, "reduce range(100) as $i (0; [.])"), "nesting");
    let input = json!(vec!["x".repeat(1024); 9 * 1024]);
    let too_large = of.evaluate(&Expression("1".into()), &input, &[]);
    assert!(matches!(too_large, Err(ExpressionError::Limit { name: "expression_input_bytes", .. })));
    assert_works(&of);
}

/// The child has no environment, although we have one, and cannot write files or start anything.
#[test]
fn a_child_has_nothing_of_ours() {
    let of = expressions(1);
    assert_works(&of);
    let [pid] = of.idle_processes()[..] else { panic!("one child") };
    assert_eq!(std::fs::read(format!("/proc/{pid}/environ")).expect("ours"), b"");
    assert!(std::env::vars().count() > 0);
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("ours");
    let of_limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.split_whitespace().nth(1).expect("hard").to_owned()
    };
    for (name, most) in [
        ("Max core file size", "0"),
        ("Max file size", "0"),
        ("Max processes", "0"),
        ("Max open files", "0"),
        ("Max stack size", "8388608"),
    ] {
        assert_eq!(of_limit(name), most, "{name}");
    }
    let data: u64 = of_limit("Max data size").parse().expect("limited");
    assert!(data < memory(pid, "VmData") + MEMORY_BYTES, "{data}");
    let link = std::fs::read_link(format!("/proc/{pid}/cwd")).expect("ours");
    assert_eq!(link, PathBuf::from("/"));
}

/// A child that ended by no fault of a program is replaced, and nobody notices.
#[test]
fn a_child_that_was_killed_is_replaced() {
    let of = expressions(1);
    for _ in 0..10 {
        assert_works(&of);
        let [pid] = of.idle_processes()[..] else { panic!("one child") };
        let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
        assert!(killed.expect("kill").success());
    }
    assert_works(&of);
}

/// A machine that does not run a child is not the program's fault: its value may be had later.
#[test]
fn a_child_that_is_not_run_is_no_failure_of_its_program() {
    let of = expressions(1);
    assert_works(&of);
    let [pid] = of.idle_processes()[..] else { panic!("one child") };
    let stopped = std::process::Command::new("kill").args(["-STOP", &pid.to_string()]).status();
    assert!(stopped.expect("kill").success());
    assert!(matches!(evaluate(&of, "1"), Err(ExpressionError::Unavailable(_))));
    assert_works(&of);
    assert_ne!(of.idle_processes(), [pid]);
}

/// Where the parent is gone, the kernel ends a program that would go on for ever.
#[test]
fn an_orphan_does_not_spin() {
    let (mut ours, theirs) = UnixStream::pair().expect("a socket");
    let mut child = std::process::Command::new(holdpoint_binary())
        .arg(holdpoint_perform::expressions::COMMAND)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .expect("started");
    let request = json!({
        "only_check": false, "text": "def f: f; f", "names": [], "values": [], "input": null, "value_bytes": 1
    });
    let request = request.to_string().into_bytes();
    let length = u32::try_from(request.len()).expect("short").to_le_bytes();
    assert!(ours.read(&mut [0; 1024]).expect("it is ready") > 0);
    ours.write_all(&[&length[..], &request].concat()).expect("sent");
    drop(ours);
    // It is ended for two seconds of the processor, which a busy machine does not give it at once.
    let status = until_blocking("the orphan is gone", SOON * 4, || child.try_wait().expect("ours"));
    assert_eq!(status.signal(), Some(24), "SIGXCPU: {status}");
}

#[test]
fn a_program_that_cannot_be_started_is_told() {
    let settings = Settings::default();
    let of = Expressions::with_program("/nowhere/holdpoint".into(), &settings, VALUE_BYTES);
    for _ in 0..3 {
        assert!(matches!(evaluate(&of, "1"), Err(ExpressionError::Unavailable(_))));
    }
    let of = Expressions::with_program("/bin/true".into(), &settings, VALUE_BYTES);
    assert!(matches!(evaluate(&of, "1"), Err(ExpressionError::Unavailable(_))));
}

/// Children end with their parent's end of the socket.
#[test]
fn children_end_with_their_parent() {
    let of = expressions(1);
    assert_works(&of);
    let [pid] = of.idle_processes()[..] else { panic!("one child") };
    drop(of);
    until_blocking("the child is gone", SOON, || {
        (!PathBuf::from(format!("/proc/{pid}")).exists()).then_some(())
    });
}

/// More callers than children: each gets its own answer, hostile neighbours or not, and there
/// are never more children than were asked for.
#[test]
fn many_callers_share_few_children() {
    let of = Arc::new(expressions(2));
    let together = Arc::new(Barrier::new(16));
    let callers: Vec<_> = (0..16)
        .map(|caller| {
            let (of, together) = (Arc::clone(&of), Arc::clone(&together));
            std::thread::spawn(move || {
                together.wait();
                for turn in 0..30 {
                    if caller == 0 && turn % 10 == 0 {
                        assert_eq!(limit(&of, "def f: f; f"), "expression_ms");
                        assert_eq!(limit(&of, "def f: 1 + f; f"), "expression_memory_bytes");
                    }
                    let input = json!({"caller": caller, "turn": turn});
                    let text = format!(". + {{number: {turn}}}");
                    let value = of.evaluate(&Expression(text.as_str().into()), &input, &[]);
                    assert_eq!(value, Ok(json!({"caller": caller, "turn": turn, "number": turn})));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().expect("every answer was right");
    }
    let idle = of.idle_processes().len();
    assert!((1..=2).contains(&idle), "{idle}");
}

/// A program that ends just in time, and one that does not: neither is taken for the other.
#[test]
fn the_time_is_the_programs_own() {
    let of = expressions(1);
    assert_eq!(evaluate(&of, "reduce range(1000) as $i (0; . + 1)"), Ok(json!(1000)));
    let began = std::time::Instant::now();
    assert_eq!(limit(&of, "def f: f; f"), "expression_ms");
    assert!(began.elapsed() >= Duration::from_millis(250));
}
