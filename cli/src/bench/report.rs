//! What was measured, as a table and as JSON.

use serde_json::{Value, json};

use super::batches::Batches;
use super::cpu::Cpu;
use super::{Outcome, Plan};
use crate::output::{self, Table};

/// All measurements.
pub struct Report {
    in_flight: usize,
    /// One for each measurement.
    pub parts: Vec<Part>,
}

/// One measurement with what it cost.
pub struct Measured {
    /// Its name.
    pub name: &'static str,
    /// Callers at a time.
    pub in_flight: usize,
    /// What came of it.
    pub outcome: Outcome,
    /// CPU time that was spent.
    pub cpu: Cpu,
    /// Batches that were made.
    pub batches: Batches,
    /// Whether any process was named.
    pub has_pids: bool,
}

/// One measurement, worked out.
pub struct Part {
    measured: Measured,
}

impl Report {
    /// An empty one.
    pub fn new(plan: &Plan) -> Self {
        Self { in_flight: plan.in_flight, parts: Vec::new() }
    }

    /// Whether every execution that was started completed.
    pub fn all_completed(&self) -> bool {
        self.parts.iter().all(|part| part.measured.outcome.completed == part.measured.outcome.started)
    }

    /// Prints it.
    pub fn print(&self, as_json: bool) {
        if as_json {
            let parts: Vec<Value> = self.parts.iter().map(Part::json).collect();
            output::json(&json!({"in_flight": self.in_flight, "measurements": parts}));
            return;
        }
        let heads = [
            "WHAT",
            "AT A TIME",
            "EXECUTIONS",
            "COMPLETED",
            "SECONDS",
            "PER SECOND",
            "P50 MS",
            "P99 MS",
            "CPU MS EACH",
            "BENCH CPU MS EACH",
        ];
        let mut table = Table::new(&heads);
        self.parts.iter().for_each(|part| table.row(part.cells()));
        table.print();
        self.print_details();
    }

    fn print_details(&self) {
        for part in &self.parts {
            let name = part.measured.name;
            if let Some(accepted) = part.measured.outcome.accepted_in {
                println!(
                    "{name}: all accepted in {:.3} s (p50 and p99 are those of the acceptance)",
                    accepted.as_secs_f64()
                );
            }
            for (process, seconds) in &part.measured.cpu.processes {
                println!("{name}: {process} {:.3} CPU ms each", part.each(*seconds));
            }
            for (histogram, mean, batches) in part.measured.batches.means() {
                println!("{name}: {histogram} mean {mean:.1} in {batches} batches");
            }
        }
    }
}

impl Part {
    /// From what was measured.
    pub fn new(measured: Measured) -> Self {
        Self { measured }
    }

    /// CPU milliseconds for each execution.
    fn each(&self, seconds: f64) -> f64 {
        seconds * 1_000.0 / self.measured.outcome.started.max(1) as f64
    }

    fn per_second(&self) -> f64 {
        self.measured.outcome.completed as f64 / self.measured.outcome.took.as_secs_f64().max(1e-9)
    }

    fn quantile(&self, quantile: f64) -> f64 {
        self.measured.outcome.times.value_at_quantile(quantile) as f64 / 1_000.0
    }

    fn cells(&self) -> [String; 10] {
        let Measured { name, in_flight, outcome, cpu, has_pids, .. } = &self.measured;
        [
            (*name).to_owned(),
            in_flight.to_string(),
            outcome.started.to_string(),
            outcome.completed.to_string(),
            format!("{:.3}", outcome.took.as_secs_f64()),
            format!("{:.0}", self.per_second()),
            format!("{:.2}", self.quantile(0.5)),
            format!("{:.2}", self.quantile(0.99)),
            if *has_pids { format!("{:.3}", self.each(cpu.total())) } else { "-".to_owned() },
            format!("{:.3}", self.each(cpu.own)),
        ]
    }

    fn json(&self) -> Value {
        let Measured { name, in_flight, outcome, cpu, batches, has_pids } = &self.measured;
        let by_process: serde_json::Map<String, Value> = cpu
            .processes
            .iter()
            .map(|(process, seconds)| (process.clone(), self.each(*seconds).into()))
            .collect();
        let batches: Vec<Value> = batches
            .means()
            .into_iter()
            .map(|(histogram, mean, count)| json!({"histogram": histogram, "mean": mean, "batches": count}))
            .collect();
        json!({
            "what": name, "at_a_time": in_flight, "executions": outcome.started, "completed": outcome.completed,
            "seconds": outcome.took.as_secs_f64(), "per_second": self.per_second(),
            "accepted_in_seconds": outcome.accepted_in.map(|time| time.as_secs_f64()),
            "p50_ms": self.quantile(0.5), "p99_ms": self.quantile(0.99),
            "cpu_ms_each": has_pids.then(|| self.each(cpu.total())), "cpu_ms_each_by_process": by_process,
            "bench_cpu_ms_each": self.each(cpu.own), "batches": batches,
        })
    }
}
