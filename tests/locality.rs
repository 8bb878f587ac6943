//! Several services: what is moved between them, and one whose link is taken down.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::twin::{Field, differences, ggr, skipped, snapshot};

/// A silent service is given up after 20 s; nothing here takes longer than this.
const LIMIT: Duration = Duration::from_secs(180);

const TOKEN: &str = "locality-0123456789abcdef";

fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(test, "network namespaces and their links need root");
    }
    root
}

#[test]
fn what_is_sticky_moves_fewer_bytes_than_chance_and_the_bytes_are_those_of_plain_make() {
    if !is_root("what_is_sticky_moves_fewer_bytes_than_chance_and_the_bytes_are_those_of_plain_make") {
        return;
    }
    let field = Field::new();
    // It fails if a build does not leave what plain make leaves.
    let words = "bench locality --json --workers 3 --units 48 --module 8 --header 512 --worker-slots 1 --delay 1 --rate 1000";
    let output = field.ggr(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<Value> = serde_json::from_str(&said).unwrap();
    let number = |placement: &str, field: &str| {
        let row = rows.iter().find(|row| row["placement"] == placement && row["packed"] == true);
        let row = row.expect("each way is measured");
        row[field].as_u64().unwrap()
    };
    for placement in ["random", "sticky", "push"] {
        assert_eq!(number(placement, "thunks"), 48 + 1 + 6 + 2, "{said}");
    }
    assert!(number("sticky", "bytes_to_services") < number("random", "bytes_to_services"), "{said}");
    assert!(number("sticky", "bytes") < number("random", "bytes"), "{said}");
}

/// A process that is killed and waited for.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn done(words: &str) {
    let words: Vec<_> = words.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A host with a link to this test's, in a network namespace of its own, and a service on it.
struct Host {
    space: Ended,
    service: Ended,
    address: String,
}

impl Host {
    fn new(dir: &Path, here: &Ended, number: u32) -> Self {
        let space = space();
        let (ours, theirs, link) = (here.0.id(), space.0.id(), format!("l{number}"));
        done(&format!(
            "nsenter -n -t {ours} ip link add name {link} type veth peer name link0 netns {theirs}"
        ));
        done(&format!("nsenter -n -t {ours} ip addr add 10.78.{number}.1/24 dev {link}"));
        done(&format!("nsenter -n -t {ours} ip link set {link} up"));
        done(&format!("nsenter -n -t {theirs} ip addr add 10.78.{number}.2/24 dev link0"));
        done(&format!("nsenter -n -t {theirs} ip link set dev link0 up"));
        let tokens = dir.join("tokens");
        fs::write(&tokens, format!("test {TOKEN} operator\n")).unwrap();
        fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
        let at = format!("10.78.{number}.2:4000");
        let mut command = Command::new("nsenter");
        command.args(["-n", "-t", &theirs.to_string()]).arg(ggr());
        command.args(["-q", "worker", "serve", "--slots", "2", "--listen", &at, "--token-file"]).arg(tokens);
        command.arg("--dir").arg(dir.join(format!("service{number}")));
        let mut service = Ended(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(service.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening"), "{line}");
        Self { space, service, address: format!("http://{at}") }
    }

    /// Asked from inside: its link may be down.
    fn status(&self) -> Value {
        let mut command = Command::new("nsenter");
        command.args(["-n", "-t", &self.space.0.id().to_string()]).arg(ggr());
        command.args(["worker", "status", "--json", "--at", &self.address]).env("GGR_WORKER_TOKEN", TOKEN);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A network namespace, which lives as long as the process in it.
fn space() -> Ended {
    let mut command = Command::new("unshare");
    let space = Ended(command.args(["-n", "cat"]).stdin(Stdio::piped()).spawn().unwrap());
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    wait_for("a network namespace", || {
        fs::read_link(format!("/proc/{}/ns/net", space.0.id())).is_ok_and(|net| net != ours)
    });
    done(&format!("nsenter -n -t {} ip link set lo up", space.0.id()));
    space
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < limit, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sources that keep two services busy for a while.
fn sources() -> Vec<(String, String)> {
    let objects: Vec<_> = (0..24).map(|n| format!("s{n}.o")).collect();
    let objects = objects.join(" ");
    let makefile = format!(
        "CFLAGS = -O2\nprog: lib.a\n\t$(CC) lib.a -o prog\nlib.a: {objects}\n\tar rcs $@ {objects}\n"
    );
    crate::worker::busy(24, makefile)
}

#[test]
fn a_service_whose_link_is_taken_down_in_mid_build_loses_nothing() {
    if !is_root("a_service_whose_link_is_taken_down_in_mid_build_loses_nothing") {
        return;
    }
    let dir = tempfile::Builder::new().prefix("ggr-unplug-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let here = space();
    let hosts = [1, 2].map(|number| Host::new(dir.path(), &here, number));
    let field = Field::new();
    field.lay(&sources());
    assert!(field.command("make").arg("-j2").output().unwrap().status.success());
    let expected = snapshot(&field.tree());
    field.clear();
    field.lay(&sources());
    let places = format!("worker={},worker={}", hosts[0].address, hosts[1].address);
    let mut build = field.command("nsenter");
    build.args(["-n", "-t", &here.0.id().to_string()]).arg(ggr()).args([
        "-q",
        "--backend",
        &places,
        "make",
        "-j8",
    ]);
    let build = build.env("GGR_WORKER_TOKEN", TOKEN).stdout(Stdio::null()).spawn().unwrap();
    let mut build = Ended(build);
    wait_for("thunks run at the first service", || {
        let status = hosts[0].status();
        status["running"].as_u64() > Some(0) && status["answered"].as_u64() > Some(0)
    });
    done(&format!("nsenter -n -t {} ip link set dev link0 down", hosts[0].space.0.id()));
    let before = hosts[1].status()["answered"].as_u64();
    let mut code = None;
    wait_for("the end of the build", || {
        code = build.0.try_wait().unwrap();
        code.is_some()
    });
    assert!(code.unwrap().success());
    let differ = differences(&expected, &snapshot(&field.tree()));
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    assert!(hosts[1].status()["answered"].as_u64() > before, "the rest is made at the other service");
    drop(hosts.map(|host| host.service));
}

#[test]
fn a_build_has_its_archiver_ready_at_the_service_before_the_archive_s_turn() {
    let dir = tempfile::Builder::new().prefix("ggr-expect-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let address = format!("unix:{}/socket", dir.path().display());
    let mut command = Command::new(ggr());
    command.args(["-q", "worker", "serve", "--slots", "2", "--listen", &address, "--dir"]);
    let mut service = Ended(command.arg(dir.path().join("state")).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(service.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let field = Field::new();
    field.lay(&sources());
    let mut build = field.command(ggr());
    build.args(["-q", "--backend", &format!("worker={address}"), "make", "-j8"]);
    let output = build.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut command = Command::new(ggr());
    let status = command.args(["worker", "status", "--json", "--at", &address]).output().unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let pools = status["pools"].as_array().unwrap();
    let archiver =
        pools.iter().find(|pool| pool["program"].as_str().is_some_and(|name| name.ends_with("ar")));
    let archiver = archiver.unwrap_or_else(|| panic!("{status}"));
    assert_eq!((&archiver["hits"], &archiver["misses"]), (&1.into(), &0.into()), "{status}");
    assert_eq!(archiver["foreseen"], 1, "it was ready because the build had announced it: {status}");
    let mut command = Command::new(ggr());
    let told = command.args(["worker", "warm", "--explain", "--at", &address]).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("1 of them because a build announced it"), "{told}");
}
