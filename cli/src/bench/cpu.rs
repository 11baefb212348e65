//! CPU time of processes, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context;

/// Linux counts in hundredths of a second for programs, whatever its own clock is.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds so far: of the processes named, each with its children if asked, and our own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cpu {
    /// By process, named as `name[pid]`.
    pub processes: BTreeMap<String, f64>,
    /// Of this command.
    pub own: f64,
}

impl Cpu {
    /// Reads the counters.
    pub fn read(pids: &[u32], tree: bool) -> anyhow::Result<Self> {
        let parents = if tree { parents()? } else { BTreeMap::new() };
        let mut processes = BTreeMap::new();
        for pid in pids {
            let stat = stat(*pid).with_context(|| format!("--pids: there is no process {pid}"))?;
            let mut seconds = stat.seconds(tree);
            for child in descendants(*pid, &parents) {
                // One that ended meanwhile is in its parent's count of ended children.
                seconds += self::stat(child).map(|stat| stat.seconds(true)).unwrap_or(0.0);
            }
            processes.insert(format!("{}[{pid}]", stat.name), seconds);
        }
        Ok(Self { processes, own: stat(std::process::id())?.seconds(false) })
    }

    /// What was spent since an earlier reading.
    pub fn since(&self, earlier: &Cpu) -> Cpu {
        let spent = |(name, now): (&String, &f64)| {
            (name.clone(), (now - earlier.processes.get(name).copied().unwrap_or(0.0)).max(0.0))
        };
        Cpu { processes: self.processes.iter().map(spent).collect(), own: (self.own - earlier.own).max(0.0) }
    }

    /// Of all processes named.
    pub fn total(&self) -> f64 {
        self.processes.values().sum()
    }
}

struct Stat {
    name: String,
    parent: u32,
    ticks: u64,
    ended_children: u64,
}

impl Stat {
    fn seconds(&self, with_children: bool) -> f64 {
        let ticks = if with_children { self.ticks + self.ended_children } else { self.ticks };
        ticks as f64 / TICKS_PER_SECOND
    }
}

fn stat(pid: u32) -> anyhow::Result<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat"))?).context("/proc/…/stat has another form")
}

/// proc(5): the name stands in parentheses and may itself hold some; then state, parent …
fn parse(text: &str) -> Option<Stat> {
    let (head, rest) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    Some(Stat {
        name: name.to_owned(),
        parent: fields.get(1)?.parse().ok()?,
        ticks: number(11)? + number(12)?,
        ended_children: number(13)? + number(14)?,
    })
}

/// Each process's parent.
fn parents() -> anyhow::Result<BTreeMap<u32, u32>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Ok(stat) = stat(pid) {
            parents.insert(pid, stat.parent);
        }
    }
    Ok(parents)
}

fn descendants(pid: u32, parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    let children = parents.iter().filter(|(_, parent)| **parent == pid).map(|(child, _)| *child);
    children.flat_map(|child| std::iter::once(child).chain(descendants(child, parents))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_spaces_and_parentheses() {
        let stat = parse("7 (a) (b c) S 3 7 7 0 -1 4194560 1 2 0 0 150 50 30 20 20 0 1 0 100").expect("read");
        assert_eq!((stat.name.as_str(), stat.parent), ("a) (b c", 3));
        assert_eq!(stat.seconds(false), 2.0);
        assert_eq!(stat.seconds(true), 2.5);
    }

    #[test]
    fn children_of_children_count() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (4, 1), (9, 8)]);
        let mut found = descendants(1, &parents);
        found.sort_unstable();
        assert_eq!(found, [2, 3, 4]);
    }

    #[test]
    fn our_own_time_is_read() {
        let before = Cpu::read(&[std::process::id()], true).expect("read");
        assert_eq!(before.processes.len(), 1);
        assert_eq!(before.since(&before).total(), 0.0);
        assert!(Cpu::read(&[u32::MAX], false).is_err());
    }
}
