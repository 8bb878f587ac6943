//! A build of Chromium's size that never was.

use ggr_ir::Kind;

use super::graph::{Graph, Task};
use crate::dice::Dice;

/// Generators of headers and sources; they come first, and each has its own program to be built before.
const GENERATORS: usize = 200;

/// Archives, each of a component.
const ARCHIVES: usize = 4000;

/// Test programs and tools, each of some components.
const PROGRAMS: usize = 400;

/// Everything.
const THUNKS: usize = 90_000;

impl Graph {
    /// 90,000 thunks, 18 hours of work (both as gg's authors give for Chromium: Fouladi et al., ATC '19, §6): compiles with a
    /// log-normal duration (median 0.5 s), a tenth of them behind a generated header; archives of twenty objects or so;
    /// four hundred programs of some components; and one of all of them, whose link takes 40 s. Few thunks are below 100 ms.
    pub fn chromium(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut tasks = generators(&mut dice);
        let generated: Vec<u32> = (0..tasks.len() as u32).filter(|at| at % 3 == 2).collect();
        let compiles = THUNKS - tasks.len() - ARCHIVES - PROGRAMS - 1;
        let first = tasks.len() as u32;
        for number in 0..compiles {
            let behind = dice.below(10) == 0;
            let deps = behind.then(|| generated[dice.below(generated.len() as u64) as usize]);
            tasks.push(task(&mut dice, Kind::Compile, number, 500, 0.8, deps.into_iter().collect()));
        }
        let archives = tasks.len() as u32;
        for number in 0..ARCHIVES {
            // Components of one size in order: neighbours in a build's directories go into the same archive.
            let share = |n: usize| first + (n * compiles / ARCHIVES) as u32;
            let members = (share(number)..share(number + 1)).collect();
            tasks.push(task(&mut dice, Kind::Archive, number, 120, 0.3, members));
        }
        for number in 0..PROGRAMS {
            let wanted = 5 + dice.below(40);
            let parts = (0..wanted).map(|_| archives + dice.below(ARCHIVES as u64) as u32);
            let mut parts: Vec<_> = parts.collect();
            parts.sort_unstable();
            parts.dedup();
            tasks.push(task(&mut dice, Kind::Link, number, 1500, 0.7, parts));
        }
        let all = (archives..archives + ARCHIVES as u32).collect();
        tasks.push(task(&mut dice, Kind::Link, PROGRAMS, 40_000, 0.0, all));
        Self::new(tasks).expect("each waits for those before it")
    }
}

/// Each a compile, a link and a run.
fn generators(dice: &mut Dice) -> Vec<Task> {
    let mut tasks = Vec::with_capacity(THUNKS);
    for number in 0..GENERATORS {
        let at = tasks.len() as u32;
        tasks.push(task(dice, Kind::Compile, number, 500, 0.5, Vec::new()));
        tasks.push(task(dice, Kind::Link, number, 200, 0.3, vec![at]));
        tasks.push(task(dice, Kind::Other, number, 300, 0.5, vec![at + 1]));
    }
    tasks
}

fn task(dice: &mut Dice, kind: Kind, number: usize, millis: u64, sigma: f64, deps: Vec<u32>) -> Task {
    let us = (millis as f64 * 1000.0 * dice.log_normal(sigma)) as u64;
    Task { label: format!("{kind:?} {number}"), kind, us, deps }
}
