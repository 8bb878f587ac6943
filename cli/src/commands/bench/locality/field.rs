//! Hosts in network namespaces of their own, around a hub: the coordinator's, and one for each service.
//!
//! A namespace lives as long as a `cat` in it, which ends with our end of its standard input: so nothing is left when we are killed.
//! Services end with us, too (`setpriv --pdeathsig`). The kernel takes the links away with their namespaces.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::project::Project;
use super::{Args, WAYS, Way, relay};

/// Where services listen, each in its own namespace.
const PORT: u16 = 4000;

/// The one tenant's.
const TOKEN: &str = "locality-0123456789abcdef";

/// A child that is killed and waited for.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network namespace.
struct Space(Ended);

impl Space {
    fn new() -> io::Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let space = Self(Ended(command.spawn()?));
        let ours = fs::read_link("/proc/self/ns/net")?;
        let theirs = format!("/proc/{}/ns/net", space.pid());
        for _ in 0..1000 {
            if fs::read_link(&theirs).is_ok_and(|net| net != ours) {
                space.ip(&["link", "set", "lo", "up"])?;
                return Ok(space);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(io::Error::other("`unshare --net` makes no network namespace"))
    }

    fn pid(&self) -> u32 {
        self.0.0.id()
    }

    /// A program in it.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid())).arg("--").arg(program);
        command
    }

    fn ip(&self, words: &[&str]) -> io::Result<()> {
        done(self.command("ip").args(words))
    }

    /// Bytes that its link has taken in and sent.
    fn link_bytes(&self) -> io::Result<(u64, u64)> {
        let text = fs::read_to_string(format!("/proc/{}/net/dev", self.pid()))?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("link0:"));
        let words: Vec<u64> =
            line.unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match words[..] {
            [taken, _, _, _, _, _, _, _, sent, ..] => Ok((taken, sent)),
            _ => Err(io::Error::other("`/proc/net/dev` has no line of the link")),
        }
    }
}

fn done(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{command:?}: {said}")))
}

/// Bytes on the links, by the kernel's counters, headers included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    /// From the coordinator to services.
    pub(super) sent: u64,
    /// To the coordinator.
    pub(super) home: u64,
    /// From services, to whomever.
    from_services: u64,
}

impl Moved {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            home: self.home - before.home,
            from_services: self.from_services - before.from_services,
        }
    }

    /// From one service to another.
    pub(super) fn between(self) -> u64 {
        self.from_services.saturating_sub(self.home)
    }

    /// Each transfer once.
    pub(super) fn all(self) -> u64 {
        self.sent + self.home + self.between()
    }
}

/// The coordinator's host and the services.
pub(super) struct Field {
    dir: PathBuf,
    coordinator: Space,
    services: Vec<(Ended, Space)>,
    _hub: Space,
}

impl Field {
    pub(super) fn new(dir: &Path, args: &Args) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let hub = Space::new()?;
        let hosts: Vec<_> = (0..=args.workers).map(|_| Space::new()).collect::<io::Result<_>>()?;
        for (number, host) in hosts.iter().enumerate() {
            link(&hub, host, number, args.rate)?;
        }
        relays(&hub, hosts.len(), Duration::from_millis(args.delay))?;
        let mut hosts = hosts.into_iter();
        let coordinator = hosts.next().expect("there is one more than services");
        let mut services = Vec::new();
        for (number, host) in (1..).zip(hosts) {
            services.push((serve(dir, &host, number, args)?, host));
        }
        Ok(Self { dir: dir.to_owned(), coordinator, services, _hub: hub })
    }

    /// Has each service get the toolchain, by a small build of its own.
    pub(super) fn warm(&self, project: &Project) -> io::Result<()> {
        for number in 1..=self.services.len() {
            project.lay()?;
            self.make(project, &format!("warm{number}"), &address(number), &WAYS[0], &["warm"])?;
        }
        Ok(())
    }

    /// Builds all at all services; gives the log.
    pub(super) fn build(&self, project: &Project, way: &Way, name: &str) -> io::Result<PathBuf> {
        let all: Vec<_> = (1..=self.services.len()).map(address).collect();
        self.make(project, name, &all.join(",worker="), way, &[])
    }

    fn make(
        &self,
        project: &Project,
        name: &str,
        at: &str,
        way: &Way,
        targets: &[&str],
    ) -> io::Result<PathBuf> {
        let log = self.dir.join(format!("{name}.log"));
        let mut command = self.coordinator.command(std::env::current_exe()?);
        command
            .args(["--quiet", &format!("--json={}", log.display()), "--backend", &format!("worker={at}")])
            .arg("--dir")
            .arg(self.dir.join(name))
            .args(["make", "-j64"])
            .args(targets)
            .env("GGR_WORKER_TOKEN", TOKEN)
            .env("GGR_WORKER_PLACEMENT", way.placement)
            .env("GGR_WORKER_PACKED", way.packed.to_string())
            .current_dir(&project.tree);
        done(&mut command)?;
        Ok(log)
    }

    /// What has been moved since the start.
    pub(super) fn moved(&self) -> io::Result<Moved> {
        let (home, sent) = self.coordinator.link_bytes()?;
        let mut from_services = 0;
        for (_, space) in &self.services {
            from_services += space.link_bytes()?.1;
        }
        Ok(Moved { sent, home, from_services })
    }
}

/// As the coordinator and other services name a service: the hub's side of its link, where the relay is.
fn address(number: usize) -> String {
    format!("http://10.77.{number}.1:{PORT}")
}

fn link(hub: &Space, host: &Space, number: usize, rate: u32) -> io::Result<()> {
    let (near, pid) = (format!("h{number}"), host.pid().to_string());
    let end = |side: u32| format!("10.77.{number}.{side}/24");
    hub.ip(&["link", "add", "name", &near, "type", "veth", "peer", "name", "link0", "netns", &pid])?;
    hub.ip(&["addr", "add", &end(1), "dev", &near])?;
    hub.ip(&["link", "set", "dev", &near, "up"])?;
    host.ip(&["addr", "add", &end(2), "dev", "link0"])?;
    host.ip(&["link", "set", "dev", "link0", "up"])?;
    host.ip(&["route", "add", "default", "via", &format!("10.77.{number}.1")])?;
    let rate = format!("{rate}mbit");
    for (space, dev) in [(hub, near.as_str()), (host, "link0")] {
        let shape =
            ["qdisc", "add", "dev", dev, "root", "tbf", "rate", &rate, "burst", "64kb", "latency", "200ms"];
        done(space.command("tc").args(shape))?;
    }
    Ok(())
}

/// Starts the relays on a thread in the hub, which lives as long as this process.
fn relays(hub: &Space, hosts: usize, delay: Duration) -> io::Result<()> {
    let space = File::open(format!("/proc/{}/ns/net", hub.pid()))?;
    let at = |number: usize, side: u8| SocketAddr::from(([10, 77, number as u8, side], PORT));
    let ways = (1..hosts).map(|number| (at(number, 1), at(number, 2))).collect();
    let (told, ready) = mpsc::channel();
    std::thread::Builder::new().name("ggr-relay".into()).spawn(move || {
        let begun = (|| {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(relay::relay(ways, delay))?;
            Ok(runtime)
        })();
        match begun {
            Ok(runtime) => {
                let _ = told.send(Ok(()));
                runtime.block_on(std::future::pending::<()>());
            }
            Err(e) => drop(told.send(Err(e))),
        }
    })?;
    ready.recv().map_err(io::Error::other)?
}

fn serve(dir: &Path, host: &Space, number: usize, args: &Args) -> io::Result<Ended> {
    let tokens = dir.join("tokens");
    fs::write(&tokens, format!("bench {TOKEN}\n"))?;
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600))?;
    let mut command = host.command("setpriv");
    // On hosts of their own the coordinator and the links would not wait for compilers; here all share this machine's processors.
    command.args(["--pdeathsig", "KILL", "--", "nice", "-n", "10"]).arg(std::env::current_exe()?);
    command.args(["--quiet", "worker", "serve", "--slots", &args.worker_slots.to_string()]);
    command.args(["--listen", &format!("10.77.{number}.2:{PORT}"), "--token-file"]).arg(&tokens);
    command.arg("--dir").arg(dir.join(format!("service{number}")));
    for peer in (1..=args.workers as usize).filter(|peer| *peer != number) {
        command.args(["--peer", &address(peer)]);
    }
    let mut child = Ended(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    let mut line = String::new();
    let said = child.0.stdout.take().map(BufReader::new);
    said.ok_or(io::ErrorKind::BrokenPipe)?.read_line(&mut line)?;
    match line.starts_with("listening") {
        true => Ok(child),
        false => Err(io::Error::other(format!("service {number} does not start"))),
    }
}
