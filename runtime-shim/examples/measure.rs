//! `measure WORKER sleepers [N]`: N times `sleep 2` at once. `measure WORKER compile [N]`: `gcc -c` of a unit with 200 headers, N
//! times through a worker and N times plainly, in turn. `measure WORKER batch [N]`: N such compiles, two at a time, through the
//! worker and then plainly.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ggr_ir::{Harvest, Kind, Limits, Outcome, Timings};
use ggr_shim::bench::{Client, Kit, children_cpu, command, sleepers};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let n: u64 = args.get(2).map_or(Ok(1000), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let mut worker = Command::new(args.first().ok_or("no worker given")?);
    match args.get(1).map(String::as_str) {
        Some("sleepers") => {
            worker.arg(dir.path()).arg(n.to_string());
            println!("{:?}", sleepers(&mut worker, dir.path(), n, "2")?);
            Ok(())
        }
        Some("compile") => compile(worker.arg(dir.path()).arg("2"), dir.path(), n),
        Some("batch") => batch(worker.arg(dir.path()).arg("2"), dir.path(), n),
        _ => Err("sleepers, compile or batch?".into()),
    }
}

/// A source that includes 200 small headers of its own, and `stdio.h`.
fn write_unit(dir: &Path, unit: u64) -> std::io::Result<()> {
    let mut text = String::from("#include <stdio.h>\n");
    for i in 0..200 {
        let name = format!("h{i}.h");
        text += &format!("#include \"{name}\"\n");
        if unit == 0 {
            std::fs::write(dir.join(name), format!("static inline int f{i}(int x) {{ return x * {i}; }}\n"))?;
        }
    }
    text += &format!("int unit{unit}(int x) {{ printf(\"%d\", f7(x)); return f9({unit}); }}\n");
    std::fs::write(dir.join(format!("u{unit}.c")), text)
}

fn compile(worker: &mut Command, root: &Path, n: u64) -> Result<(), Box<dyn Error>> {
    let project = root.join("project");
    std::fs::create_dir(&project)?;
    let mut kit = Kit::new(root);
    for unit in 0..n {
        write_unit(&project, unit)?;
    }
    kit.gcc(&project.join("u0.c"), &["-O0"])?;
    let base = kit.inputs.clone();
    let mut client = Client::start(worker)?;
    let (mut plain, mut plain_cpu, mut through, mut timings) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for unit in 0..n {
        let source = format!("u{unit}.c");
        let call = ["/usr/bin/gcc", "-O0", "-c", &source];
        let (started, used) = (Instant::now(), children_cpu());
        Command::new("/usr/bin/gcc").args(&call[1..]).current_dir(&project).status()?;
        plain.push(started.elapsed());
        plain_cpu.push(children_cpu() - used);
        kit.inputs = base.clone();
        kit.inputs.retain(|path, _| !path.as_str().ends_with("/u0.c"));
        kit.file(&project.join(&source))?;
        let dir = project.to_str().ok_or("path")?;
        let thunk = kit.thunk(command(&call, dir), &[], Harvest::Everything);
        let started = Instant::now();
        client.run(unit, thunk, Kind::Compile, Limits::default())?;
        let (_, attempt) = client.answer()?;
        through.push(started.elapsed());
        let Outcome::Reduced(_) = attempt.outcome else { return Err(format!("{attempt:?}").into()) };
        timings.push(attempt.timings);
    }
    let part = |of: fn(&Timings) -> Duration| median(timings.iter().map(of).collect());
    println!("{} inputs; medians of {n}", kit.inputs.len());
    println!("plain {:?}, through the worker {:?}", median(plain), median(through));
    println!("processor time of gcc: plain {:?}, in the sandbox {:?}", median(plain_cpu), part(|t| t.cpu));
    println!(
        "queued {:?}, staged and sandbox {:?}, ran {:?}, harvested {:?}",
        part(|t| t.queued),
        part(|t| t.staged),
        part(|t| t.ran),
        part(|t| t.harvested)
    );
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn batch(worker: &mut Command, root: &Path, n: u64) -> Result<(), Box<dyn Error>> {
    let project = root.join("project");
    std::fs::create_dir(&project)?;
    let dir = project.to_str().ok_or("path")?;
    for unit in 0..n {
        write_unit(&project, unit)?;
    }
    let mut kit = Kit::new(root);
    kit.gcc(&project.join("u0.c"), &["-O0"])?;
    kit.inputs.retain(|path, _| !path.as_str().ends_with("/u0.c"));
    let base = kit.inputs.clone();
    let mut thunks = Vec::new();
    for unit in 0..n {
        let source = format!("u{unit}.c");
        kit.inputs = base.clone();
        kit.file(&project.join(&source))?;
        let call = ["/usr/bin/gcc", "-O0", "-c", &source];
        thunks.push(kit.thunk(command(&call, dir), &[], Harvest::Everything));
    }
    let mut client = Client::start(worker)?;
    let started = Instant::now();
    let mut timings = Vec::new();
    for (seq, thunk) in (0..).zip(thunks) {
        client.run(seq, thunk, Kind::Compile, Limits::default())?;
    }
    for _ in 0..n {
        let (_, attempt) = client.answer()?;
        let Outcome::Reduced(_) = attempt.outcome else { return Err(format!("{attempt:?}").into()) };
        timings.push(attempt.timings);
    }
    let through = started.elapsed();
    let cpu: Duration = timings.iter().map(|t| t.cpu).sum();
    // The worker's own end, so that its processor time is counted; the zygote's and its children's is not in it.
    drop(client);
    let (started, used) = (Instant::now(), children_cpu());
    let script = format!("seq 0 {} | xargs -P2 -I% gcc -O0 -c u%.c", n - 1);
    Command::new("sh").args(["-c", &script]).current_dir(&project).status()?;
    println!("through the worker {through:?} (gcc alone {cpu:?} of processor time)");
    println!("plain {:?} ({:?} of processor time)", started.elapsed(), children_cpu() - used);
    Ok(())
}
