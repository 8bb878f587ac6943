//! Compares the scanner with `gcc -M` over recorded compiler calls, byte for byte, and measures both. `tests/scan/run` makes the calls.
//!
//! `scan_check CALLS [--show N] [--no-gcc]`: each line of CALLS is `{"dir": "…", "args": ["gcc", …]}`.

mod args;
mod files;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::time::Duration;

use args::{Call, Unit};
use files::{RealFiles, SeenFiles};
use ggr_models::scan::{AskCompiler, DepfileOptions, ScanMiss, Scanner, default_target, depfile};

#[derive(Default)]
struct Count {
    equal: usize,
    unsure: usize,
    different: usize,
    gcc_failed: usize,
    gcc_failed_but_scanned: usize,
    reasons: BTreeMap<String, usize>,
    gcc_time: Duration,
}

/// As in `ggr` itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut given = std::env::args().skip(1);
    let (mut list, mut show, mut gcc) = (None, 5, true);
    while let Some(arg) = given.next() {
        match arg.as_str() {
            "--show" => show = given.next().and_then(|n| n.parse().ok()).unwrap_or(show),
            "--no-gcc" => gcc = false,
            _ => list = Some(arg),
        }
    }
    let list = list.expect("usage: scan_check CALLS [--show N] [--no-gcc]");
    let text = std::fs::read_to_string(&list).expect("the list of calls can be read");
    let units: Vec<Unit> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Call>(line).ok())
        .flat_map(|call| call.units())
        .collect();
    let scanner = Scanner::new(Box::new(AskCompiler::default()));
    let mut count = Count::default();
    if gcc {
        for unit in &units {
            compare(&scanner, &RealFiles, unit, &mut count, &mut show);
        }
        println!(
            "{} units: {} equal, {} not sure, {} different; gcc failed on {} more ({} of them scanned)",
            units.len(),
            count.equal,
            count.unsure,
            count.different,
            count.gcc_failed,
            count.gcc_failed_but_scanned
        );
        for (reason, number) in &count.reasons {
            println!("  not sure {number} x: {reason}");
        }
    }
    measure(&units, &count);
    if count.different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn compare(scanner: &Scanner, files: &RealFiles, unit: &Unit, count: &mut Count, show: &mut usize) {
    let started = children_time();
    let real = Command::new(&unit.request.compiler.program)
        .args(&unit.plain)
        .arg("-M")
        .current_dir(&unit.request.dir)
        .env("LC_ALL", "C")
        .output()
        .expect("the compiler runs");
    count.gcc_time += children_time().saturating_sub(started);
    let ours = scanner.scan(&unit.request, files);
    if !real.status.success() {
        count.gcc_failed += 1;
        if ours.is_ok_and(|scan| !scan.fails) {
            count.gcc_failed_but_scanned += 1;
        }
        return;
    }
    match ours {
        Err(ScanMiss::NotSure(reason)) => {
            count.unsure += 1;
            *count.reasons.entry(reason).or_default() += 1;
        }
        Err(other) => {
            count.different += 1;
            println!("{}: {other}", unit.request.source);
        }
        Ok(scan) if scan.fails => {
            count.different += 1;
            println!("DIFFERENT {}: gcc does not fail", unit.request.source);
        }
        Ok(scan) => {
            let ours = depfile(&scan, &[default_target(&unit.request.source)], &DepfileOptions::default());
            if ours == real.stdout {
                count.equal += 1;
                return;
            }
            count.different += 1;
            if *show > 0 {
                *show -= 1;
                print_difference(unit, &ours, &real.stdout);
            }
        }
    }
}

fn print_difference(unit: &Unit, ours: &[u8], real: &[u8]) {
    println!("DIFFERENT {} in {}: {:?}", unit.request.source, unit.request.dir.display(), unit.plain);
    let words = |text: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(text)
            .split_whitespace()
            .filter(|word| *word != "\\")
            .map(str::to_owned)
            .collect()
    };
    let (ours, real) = (words(ours), words(real));
    let at =
        ours.iter().zip(&real).position(|(left, right)| left != right).unwrap_or(ours.len().min(real.len()));
    println!("  ours has {}, gcc {}; first difference at {at}:", ours.len(), real.len());
    println!("  ours: {:?}", &ours[at.saturating_sub(1)..(at + 3).min(ours.len())]);
    println!("  gcc:  {:?}", &real[at.saturating_sub(1)..(at + 3).min(real.len())]);
}

fn measure(units: &[Unit], count: &Count) {
    let scanner = Scanner::new(Box::new(AskCompiler::default()));
    // The compiler's own facts are kept by its hash for ever: they are no part of a build's time.
    for unit in units {
        let _ = scanner.prepare(&unit.request);
    }
    // As in a build, each path is looked at once in a run over all units, and each unit for itself to compare.
    let files = SeenFiles::default();
    let run = |scan: &dyn Fn(&Unit)| {
        files.forget();
        let started = cpu_time();
        units.iter().for_each(scan);
        let time = cpu_time() - started;
        let names = ["files", "links", "directories", "bytes"];
        let asked = names.into_iter().zip(files.take_asked());
        let asked: Vec<String> = asked.map(|(name, times)| format!("{name} {times}")).collect();
        println!("  files asked in all: {}", asked.join(", "));
        time
    };
    let cold = run(&|unit| drop(scanner.scan(&unit.request, &files)));
    let lexed = run(&|unit| drop(scanner.scan_afresh(&unit.request, &files)));
    let warm = run(&|unit| drop(scanner.scan(&unit.request, &files)));
    let each_unit = run_once(|| units.iter().for_each(|unit| drop(scanner.scan(&unit.request, &RealFiles))));
    let file = std::env::temp_dir().join(format!("scan-check-{}", std::process::id()));
    let saving = run_once(|| scanner.save(&file).expect("the cache can be written"));
    let size = std::fs::metadata(&file).map_or(0, |found| found.len());
    let second = OnceCell::new();
    let loading = run_once(|| drop(second.set(Scanner::load(Box::new(AskCompiler::default()), &file))));
    let second = second.into_inner().expect("it was just set");
    let next = run(&|unit| drop(second.scan(&unit.request, &files)));
    let _ = std::fs::remove_file(&file);
    println!(
        "cache: {} KiB, {:.1} ms to save, {:.1} ms to load",
        size >> 10,
        saving.as_secs_f64() * 1e3,
        loading.as_secs_f64() * 1e3
    );
    let each = |time: Duration| time.as_secs_f64() * 1e3 / units.len().max(1) as f64;
    println!("cold: {:.1} ms in all, {:.3} ms a unit", cold.as_secs_f64() * 1e3, each(cold));
    for (name, time) in [
        ("lexed, run again", lexed),
        ("warm", warm),
        ("warm, every file looked at in every unit", each_unit),
        ("warm, next process", next),
    ] {
        println!("{name}: {:.1} ms in all, {:.3} ms a unit", time.as_secs_f64() * 1e3, each(time));
    }
    if !count.gcc_time.is_zero() {
        let gcc = count.gcc_time;
        println!(
            "gcc -M: {:.1} ms in all, {:.3} ms a unit: {:.0} x cold, {:.0} x warm",
            gcc.as_secs_f64() * 1e3,
            each(gcc),
            gcc.as_secs_f64() / cold.as_secs_f64(),
            gcc.as_secs_f64() / warm.as_secs_f64()
        );
    }
}

fn run_once(act: impl FnOnce()) -> Duration {
    let started = cpu_time();
    act();
    cpu_time() - started
}

/// The processor time of this process: other programs on the machine do not count.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The processor time of the compilers that have been waited for, in steps of the kernel's 10 ms.
fn children_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(13) + ticks(14)))
}
