//! Where an execution stands in a distributed trace: the W3C trace context of whoever started
//! it, and ids that follow from the execution, so that every process names the same span in the
//! same way, after a restart and a month later, and nothing has to be remembered.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::digest::hex;
use crate::ids::ExecutionId;

/// A W3C `traceparent` (<https://www.w3.org/TR/trace-context/#traceparent-header>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace; not all zero.
    pub trace: [u8; 16],
    /// The span that what comes is a part of; not all zero.
    pub span: [u8; 8],
    /// Whether spans of this trace are kept.
    pub sampled: bool,
}

impl Traceparent {
    /// Reads one; what is none is nothing, as the specification has it. Of a later version the
    /// first four fields count.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.trim().split('-');
        let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let [version] = bytes::<1>(version)?;
        if version == 0xff || (version == 0 && fields.next().is_some()) {
            return None;
        }
        let [flags] = bytes::<1>(flags)?;
        let found = Self { trace: bytes(trace)?, span: bytes(span)?, sampled: flags & 1 == 1 };
        (found.trace != [0; 16] && found.span != [0; 8]).then_some(found)
    }

    /// The same trace, seen from another span of it.
    pub fn with_span(self, span: [u8; 8]) -> Self {
        Self { span, ..self }
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", hex(&self.trace), hex(&self.span), u8::from(self.sampled))
    }
}

/// Lower-case hex digits, exactly so many.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut found = [0; N];
    let pairs = text.as_bytes();
    if pairs.len() != N * 2 {
        return None;
    }
    for (at, pair) in pairs.chunks_exact(2).enumerate() {
        found[at] = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(found)
}

/// An execution in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecutionTrace {
    id: ExecutionId,
    trace: [u8; 16],
    sampled: bool,
    /// The span of whoever started it, where they told one.
    pub parent: Option<[u8; 8]>,
}

impl ExecutionTrace {
    /// That of an execution that was started with this context. Without one it has a trace of
    /// its own, which is sampled where `ratio` (0 to 1) says so.
    pub fn new(id: ExecutionId, given: Option<Traceparent>, ratio: f64) -> Self {
        match given {
            Some(Traceparent { trace, span, sampled }) => Self { id, trace, sampled, parent: Some(span) },
            None => {
                let trace = derived(b"holdpoint trace", id, 0, 0);
                Self { id, trace, sampled: is_sampled(&trace, ratio), parent: None }
            }
        }
    }

    /// Whether spans of it are kept.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The span of the execution from its creation until it was taken for the first time.
    pub fn root(&self) -> Traceparent {
        self.span(b"holdpoint root", 0, 0)
    }

    /// The span of the time for which one worker holds it.
    pub fn run(&self, epoch: i64) -> Traceparent {
        self.span(b"holdpoint run", epoch, 0)
    }

    /// The span of one attempt of a step.
    pub fn step(&self, step: i32, attempt: u32) -> Traceparent {
        self.span(b"holdpoint step", i64::from(step), attempt)
    }

    /// The span from the question to the decision about a step.
    pub fn approval(&self, step: i32) -> Traceparent {
        self.span(b"holdpoint approval", i64::from(step), 0)
    }

    fn span(&self, what: &[u8], number: i64, attempt: u32) -> Traceparent {
        Traceparent {
            trace: self.trace,
            span: derived(what, self.id, number, attempt),
            sampled: self.sampled,
        }
    }
}

/// Not the bytes of the id itself: half of those are its time, and a sampler that looks at the
/// last bytes of a trace's id expects them to be of any value.
fn derived<const N: usize>(what: &[u8], id: ExecutionId, number: i64, attempt: u32) -> [u8; N] {
    let mut hasher = Sha256::new();
    hasher.update(what);
    hasher.update(id.0.as_bytes());
    hasher.update(number.to_be_bytes());
    hasher.update(attempt.to_be_bytes());
    let digest = hasher.finalize();
    let mut found = [0; N];
    found.copy_from_slice(&digest[..N]);
    found
}

/// By the last eight bytes, as the samplers of OpenTelemetry: every process says the same.
pub fn is_sampled(trace: &[u8; 16], ratio: f64) -> bool {
    let mut last = [0; 8];
    last.copy_from_slice(&trace[8..]);
    // 2^63 values; a ratio of 1 takes them all.
    ((u64::from_be_bytes(last) >> 1) as f64) < ratio * 9_223_372_036_854_775_808.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn id(text: &str) -> ExecutionId {
        ExecutionId(uuid::Uuid::parse_str(text).expect("a UUID"))
    }

    #[test]
    fn what_the_specification_gives_is_read_and_written() {
        let read = Traceparent::parse(GIVEN).expect("read");
        assert_eq!(read.to_string(), GIVEN);
        assert!(read.sampled);
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-what-comes";
        assert!(!Traceparent::parse(later).expect("of a later version").sampled);
    }

    #[test]
    fn what_is_none_is_nothing() {
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ö-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Traceparent::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_span_has_its_own_id_and_always_the_same() {
        let one = id("0190163d-8694-739b-aea5-966c26f8ad91");
        let given = Traceparent::parse(GIVEN);
        let trace = ExecutionTrace::new(one, given, 0.0);
        let spans =
            [trace.root(), trace.run(1), trace.run(2), trace.step(1, 1), trace.step(1, 2), trace.approval(1)];
        for (at, span) in spans.iter().enumerate() {
            assert_eq!(span.trace, given.expect("given").trace);
            assert!(span.sampled, "whoever started it says so");
            assert!(spans[at + 1..].iter().all(|other| other.span != span.span));
        }
        assert_eq!(ExecutionTrace::new(one, given, 0.0).step(1, 2), trace.step(1, 2));
        let other = ExecutionTrace::new(id("0190163d-8694-739b-aea5-966c26f8ad92"), given, 0.0);
        assert_ne!(other.root().span, trace.root().span);
    }

    #[test]
    fn a_ratio_samples_about_so_many() {
        let sampled = |ratio: f64| {
            let ids = (0..2_000u128).map(|n| ExecutionId(uuid::Uuid::from_u128(n)));
            ids.filter(|id| ExecutionTrace::new(*id, None, ratio).is_sampled()).count()
        };
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 2_000));
        assert!((150..250).contains(&sampled(0.1)), "{}", sampled(0.1));
    }
}
