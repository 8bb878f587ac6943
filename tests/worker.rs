//! Builds whose thunks run at a `ggr worker serve`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::twin::{Field, Tree, Twin, differences, ggr, skipped, snapshot};

/// Nothing here takes longer; a hang is a failure.
const LIMIT: Duration = Duration::from_secs(120);

/// A service of a directory of its own, at a Unix socket; killed when dropped.
struct Service {
    dir: tempfile::TempDir,
    child: Child,
}

impl Service {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("ggr-service-").tempdir_in("/var/tmp").unwrap();
        // Tenants with user ids of their own pass through it.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let child = serve(dir.path(), "sandbox");
        Self { dir, child }
    }

    /// One whose thunks run in guests. Images and what the machine can do are remembered in the user's own cache.
    fn of_guests() -> Self {
        let dir = tempfile::Builder::new().prefix("ggr-service-").tempdir_in("/var/tmp").unwrap();
        let child = serve(dir.path(), "microvm");
        Self { dir, child }
    }

    fn address(&self) -> String {
        format!("unix:{}/socket", self.dir.path().display())
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = serve(self.dir.path(), "sandbox");
    }

    /// `ggr worker status --json`.
    fn status(&self) -> String {
        let asked = self.control(&["status", "--json"]);
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8(asked.stdout).unwrap()
    }

    fn control(&self, words: &[&str]) -> std::process::Output {
        let mut command = Command::new(ggr());
        command.arg("worker").args(words).args(["--at", &self.address()]);
        command.output().unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a service and waits until it listens.
fn serve(dir: &Path, isolation: &str) -> Child {
    let mut child = Command::new(ggr())
        .args(["worker", "serve", "--isolation", isolation, "--slots", "4", "--listen"])
        .arg(format!("unix:{}/socket", dir.display()))
        .arg("--dir")
        .arg(dir.join("state"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening at unix:"), "{line}");
    child
}

fn number(json: &str, field: &str) -> u64 {
    let rest = json.split_once(&format!("\"{field}\":")).expect("the field is there").1.trim_start();
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn a_build_at_a_service_gives_the_bytes_of_a_plain_one() {
    let service = Service::start();
    let makefile = "\
.RECIPEPREFIX = >
CFLAGS = -g
prog: main.o libutil.a
> $(CC) $^ -o $@
libutil.a: util.o
> ar rcs $@ $^
main.o util.o: util.h
";
    Twin::new()
        .variable("GGR_BACKEND", &format!("worker={}", service.address()))
        .file("util.h", "int util(int);\n")
        .file("util.c", "#include \"util.h\"\nint util(int x) { return x - 1; }\n")
        .file(
            "main.c",
            "#include <stdio.h>\n#include \"util.h\"\nint main(void) { puts(\"worker\"); return util(1); }\n",
        )
        .file("Makefile", makefile)
        .build("make -j2")
        .plain("make -q && ./prog")
        .same();
    let status = service.status();
    assert_eq!(number(&status, "answered"), 4, "{status}");
    assert!(status.contains("\"tenant\": \"local\"") && status.contains("\"warm\": true"), "{status}");
}

#[test]
fn a_build_at_a_service_of_guests_gives_the_bytes_of_a_plain_one() {
    let tried = Command::new(ggr()).args(["worker", "image", "build"]).output().unwrap();
    if !tried.status.success() {
        let why = String::from_utf8_lossy(&tried.stderr);
        return skipped("a_build_at_a_service_of_guests_gives_the_bytes_of_a_plain_one", &why);
    }
    let service = Service::of_guests();
    Twin::new()
        .variable("GGR_BACKEND", &format!("worker={}", service.address()))
        .file("a.c", "int a(int x) { return x - 1; }\n")
        .file("b.c", "int b(int x) { return x + 1; }\n")
        .file("Makefile", "libab.a: a.o b.o\n\t$(AR) rcs $@ $^\n")
        .build("make -j2")
        .plain("make -q")
        .same();
    let status = service.status();
    assert_eq!(number(&status, "answered"), 3, "{status}");
    assert!(status.contains("\"isolation\": \"microvm\""), "{status}");
    // What guests cannot give is not asked of them: it is made here.
    Twin::new()
        .variable("GGR_BACKEND", &format!("worker={}", service.address()))
        .variable("GGR_NETWORK", "own")
        .file("Makefile", "a.o: a.c\n")
        .file("a.c", "int a;\n")
        .build("make")
        .same();
    assert_eq!(number(&service.status(), "answered"), 3);
}

/// A program of a few sources, each with enough in it to be compiling for a while.
fn sources() -> Vec<(String, String)> {
    let objects: Vec<_> = (0..8).map(|n| format!("s{n}.o")).collect();
    busy(8, format!("CFLAGS = -O2 -g\nprog: {0}\n\t$(CC) {0} -o prog\n", objects.join(" ")))
}

/// This makefile with so many sources `s0.c`, `s1.c`, …, each with enough in it to be compiling for a while.
pub(crate) fn busy(count: usize, makefile: String) -> Vec<(String, String)> {
    let mut files = vec![("Makefile".to_owned(), makefile)];
    for n in 0..count {
        let mut text = if n == 0 { "int main(void) { return 0; }\n".to_owned() } else { String::new() };
        for f in 0..60 {
            text += &format!(
                "int f{n}_{f}(int *v, int n) {{ int s = {f}; for (int i = 0; i < n; i++) {{ s += v[i] * {n}; \
                 if (s % 7 == {f} % 7) v[i] ^= s; }} return s; }}\n"
            );
        }
        files.push((format!("s{n}.c"), text));
    }
    files
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < limit, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What plain make leaves of the sources, and a build of them at the service that has just begun.
fn begin(field: &Field, service: &Service) -> (Tree, Child) {
    field.lay(&sources());
    assert!(field.command("make").arg("-j2").output().unwrap().status.success());
    let expected = snapshot(&field.tree());
    field.clear();
    field.lay(&sources());
    let build = field
        .command(ggr())
        .args(["--backend", &format!("worker={}", service.address()), "make", "-j8"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    (expected, build.unwrap())
}

/// Waits for the end of a build, which must have left what plain make leaves.
fn ends_as_plain(field: &Field, expected: &Tree, mut build: Child) {
    wait_for("the end of the build", || build.try_wait().unwrap().is_some());
    assert!(build.wait().unwrap().success());
    let differ = differences(expected, &snapshot(&field.tree()));
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn a_service_that_is_killed_and_started_again_in_mid_build_does_no_harm() {
    let field = Field::new();
    let mut service = Service::start();
    let (expected, mut build) = begin(&field, &service);
    for round in 0..2 {
        let at_work = |status: &str| number(status, "running") > 0 && number(status, "answered") > 0;
        wait_for(&format!("thunks run, round {round}"), || {
            at_work(&service.status()) || build.try_wait().unwrap().is_some()
        });
        service.kill();
        service.restart();
    }
    ends_as_plain(&field, &expected, build);
}

#[test]
fn a_service_that_goes_away_in_mid_build_leaves_the_rest_to_this_machine() {
    let field = Field::new();
    let mut service = Service::start();
    let (expected, build) = begin(&field, &service);
    wait_for("a thunk runs", || number(&service.status(), "running") > 0);
    service.kill();
    ends_as_plain(&field, &expected, build);
}

#[test]
fn sleepers_are_measured_through_a_service() {
    let field = Field::new();
    let output = field.command(ggr()).args(["bench", "sleep", "20", "0.2", "--service", "--json"]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(number(&said, "sleepers"), 20);
}

#[test]
fn sleepers_whose_workers_are_killed_are_run_again() {
    let field = Field::new();
    let words = ["bench", "sleep", "8", "0.5", "--service", "--restarts", "4", "--json"];
    let output = field.command(ggr()).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((number(&said, "restarts"), number(&said, "again")), (4, 8), "{said}");
}

#[test]
fn a_service_that_cannot_be_reached_is_named_and_nothing_is_built() {
    let field = Field::new();
    field.lay(&[("Makefile".into(), "all:\n\techo built > built\n".into())]);
    let mut command = field.command(ggr());
    let output = command.args(["--backend", "worker=unix:/nonexistent/socket", "make"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("unix:/nonexistent/socket"), "{said}");
    assert!(!field.tree().join("built").exists());
}

#[test]
fn a_drained_service_ends_with_success_and_leaves_nothing_but_its_stores() {
    let mut service = Service::start();
    assert!(service.control(&["warm", "sleep"]).status.success());
    let explained = service.control(&["warm", "--explain"]);
    let told = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(told.contains("/sleep: warm, 0 running") && told.contains("fallback: kept for 600 s"), "{told}");
    assert!(service.control(&["drain"]).status.success());
    let mut status = None;
    wait_for("its end", || {
        status = service.child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success());
    assert!(!service.dir.path().join("socket").exists());
    let sandboxes = service.dir.path().join("state/tenants/local/sandboxes");
    let left = fs::read_dir(sandboxes).unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(left, 0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(service.dir.path().to_str().unwrap()));
}
