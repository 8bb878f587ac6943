//! Programs that try to get out.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

use ggr_ir::{Harvest, Limits, Mode, ObjectStore};
use ggr_shim::bench::Client;

use crate::harness::*;

/// Waits until it holds, for at most ten seconds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < limit, "{what}");
        std::thread::yield_now();
    }
}

fn running(marker: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| line.windows(marker.len()).any(|part| part == marker.as_bytes()))
    })
}

#[test]
fn writes_to_inputs_do_not_reach_the_store() {
    let mut place = Place::new();
    place.kit.bytes("/work/in", b"in", Mode::Regular).unwrap();
    let id = ggr_ir::BlobId::of(b"in");
    let attempt = place.sh("chmod 777 in; echo changed > in; echo x >> /usr/bin/cat; cat in");
    assert!(place.outputs(&attempt).contains(&("/work/in".into(), "changed\n".into())));
    let blob = place.store().local_path(id).unwrap();
    assert_eq!(std::fs::read(&blob).unwrap(), b"in");
    assert_eq!(blob.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    // And the next job sees the input as it was.
    let attempt = place.sh("cat in");
    assert_eq!(place.stdout(&attempt), "in");
}

#[test]
fn the_system_is_read_only_but_for_who_writes_there() {
    let mut place = Place::new();
    place.kit.bytes("/usr/share/in", b"in", Mode::Regular).unwrap();
    let attempt = place
        .sh("chmod 777 /usr/share/in; echo x > /usr/share/new; mount -o remount,rw /usr; cat /usr/share/in");
    assert_eq!(place.stdout(&attempt), "in");
    assert_eq!(place.outputs(&attempt), []);
    let script = "echo changed > /usr/share/in; echo x > /usr/share/out";
    let attempt = place.declared(script, &["/usr/share/in", "/usr/share/out"]);
    assert_eq!(
        place.outputs(&attempt),
        [("/usr/share/in".into(), "changed\n".into()), ("/usr/share/out".into(), "x\n".into())]
    );
    let blob = place.store().local_path(ggr_ir::BlobId::of(b"in")).unwrap();
    assert_eq!(std::fs::read(blob).unwrap(), b"in");
}

#[test]
fn an_output_behind_a_symlink_is_not_followed() {
    let mut place = Place::new();
    let attempt = place.declared("ln -s /etc d; ln -s /etc/passwd f", &["/work/f"]);
    assert!(unrepresentable(&attempt).contains("/work/f"));
    let attempt = place.declared("rm -rf /work/o; ln -s /etc /work/o", &["/work/o/passwd"]);
    assert!(unrepresentable(&attempt).contains("/work/o/passwd"));
}

#[test]
fn an_input_below_a_symlink_is_refused() {
    let mut place = Place::new();
    place.kit.bytes("/work/l", b"/etc", Mode::Symlink).unwrap();
    place.kit.bytes("/work/l/escaped", b"x", Mode::Regular).unwrap();
    let attempt = place.sh("true");
    assert!(format!("{:?}", attempt.outcome).contains("needed as a directory"), "{:?}", attempt.outcome);
    assert!(!std::path::Path::new("/etc/escaped").exists());
}

#[test]
fn a_program_sees_its_own_processes_files_and_devices_only() {
    let mut place = Place::new();
    let attempt =
        place.sh("cd /proc; echo [0-9]*; cd /; echo *; cd /dev; echo *; cat /proc/self/mountinfo | head -1");
    let out = place.stdout(&attempt);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "1 2");
    assert_eq!(lines[1], "dev lib lib64 proc tmp usr var work");
    assert_eq!(lines[2], "fd full null random stderr stdin stdout urandom zero");
    assert!(lines[3].contains(" / / "), "{}", lines[3]);
}

#[test]
fn a_program_cannot_look_into_or_kill_its_init_nor_change_the_kernel() {
    let mut place = Place::new();
    let attempt = place.sh(
        "ls /proc/1/fd /proc/1/root && exit 9; kill -9 1; echo x > /proc/sys/kernel/hostname && exit 8; \
         echo > /dev/new && exit 7; mkfifo /dev/f && exit 6; cat /proc/self/status",
    );
    let out = place.stdout(&attempt);
    let field = |name: &str| out.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    // CAP_DAC_OVERRIDE is bit 1.
    assert_eq!(field("CapEff:"), "0000000000000002");
    assert_eq!(field("CapBnd:"), "0000000000000002");
    assert_eq!(field("NoNewPrivs:"), "1");
}

#[test]
fn a_program_gets_no_user_namespace_and_with_it_no_way_out_of_its_root() {
    let mut place = Place::new();
    for program in ["/usr/bin/unshare", "/usr/sbin/chroot"] {
        place.kit.program(std::path::Path::new(program)).unwrap();
    }
    let attempt =
        place.sh("unshare -U true 2>&1; unshare -m true 2>&1; /usr/sbin/chroot / /usr/bin/ls 2>&1; true");
    assert_eq!(place.stdout(&attempt).matches("not permitted").count(), 3);
}

#[test]
fn a_filter_keeps_programs_from_the_depths_of_the_kernel() {
    let mut place = Place::new();
    place.kit.program(std::path::Path::new("/usr/bin/perl")).unwrap();
    // bpf, io_uring_setup, mount: each gives its error, and the program goes on.
    let script = "cat /proc/self/status; perl -e 'for (321, 425, 165) { syscall($_, 0, 0, 0, 0, 0); print 0 + $!, qq(\\n) }'";
    let attempt = place.sh(script);
    let out = place.stdout(&attempt);
    assert!(out.contains("Seccomp:\t2\n"), "{out}");
    assert!(out.ends_with("\n1\n38\n1\n"), "{out}");
}

#[test]
fn there_is_no_network() {
    let mut place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    place.kit.program(std::path::Path::new("/usr/bin/bash")).unwrap();
    let script =
        format!("bash -c 'echo > /dev/tcp/127.0.0.1/{port}' 2>&1; cat /proc/net/dev; cat /proc/net/route");
    let attempt = place.sh(&script);
    let out = place.stdout(&attempt);
    assert!(out.contains("unreachable"), "{out}");
    assert!(!out.contains("eth"), "{out}");
}

#[test]
fn nothing_is_left_of_a_job_that_leaves_processes_behind() {
    let mut place = Place::new();
    reduced(&place.sh("sleep 1111 & (sleep 1112 & ) ; echo done"));
    assert!(!running("sleep\u{0}1111") && !running("sleep\u{0}1112"));
    eventually("the scratch directory goes", || {
        let mut jobs = std::fs::read_dir(place.scratch()).unwrap();
        jobs.next().is_none()
    });
}

#[test]
fn a_fork_bomb_ends_at_its_deadline_with_all_its_processes() {
    let mut place = Place::new();
    let limits = Limits { wall: Duration::from_millis(700), ..Limits::default() };
    // Bounded in depth, so that a machine under test stays usable: 2^8 processes.
    let script = "b() { if [ $1 -gt 0 ]; then b $(($1-1)) & b $(($1-1)) & fi; sleep 2222; }; b 7";
    let attempt = place.run(script, &[], Harvest::Everything, limits);
    assert_eq!(attempt.outcome, ggr_ir::Outcome::Infra(ggr_ir::InfraFailure::DeadlinePassed));
    assert!(!running("sleep\u{0}2222"));
}

#[test]
fn killing_the_worker_leaves_no_process_and_no_mount_and_the_next_one_sweeps() {
    let mut place = Place::new();
    place.start(1, "sleep 3333 & sleep 3333", &[], Harvest::Everything, Limits::default());
    eventually("it runs", || running("sleep\u{0}3333"));
    place.client.kill().unwrap();
    eventually("its processes end", || !running("sleep\u{0}3333"));
    let root = place.dir.path().to_str().unwrap();
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(root));
    let sandboxes = place.dir.path().join("sandboxes");
    let dirs = || sandboxes.read_dir().unwrap().flatten().filter(|entry| entry.path().is_dir()).count();
    assert_eq!(dirs(), 1);
    let client = Client::start(&mut worker(place.dir.path(), 1)).unwrap();
    assert_eq!(dirs(), 1, "its own");
    drop(client);
    assert_eq!(dirs(), 0);
}

#[test]
fn an_ordinary_user_gets_the_same_sandbox() {
    let nobody = 65534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run here: switching to another user needs root");
        return;
    }
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let program = dir.path().join("worker");
    std::fs::copy(worker_program(), &program).unwrap();
    std::os::unix::fs::chown(dir.path(), Some(nobody), Some(nobody)).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut kit = ggr_shim::bench::Kit::new(&dir.path().join("store"));
    PROGRAMS.iter().for_each(|program| kit.program(std::path::Path::new(program)).unwrap());
    kit.bytes("/work/in", b"in", Mode::Regular).unwrap();
    let chown = Command::new("chown").arg("-R").arg("65534:65534").arg(dir.path()).status().unwrap();
    assert!(chown.success());
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    command.arg(dir.path().join("store")).args(["2", "namespaces"]);
    let client = Client::start(&mut command).unwrap();
    let kit_dir = tempfile::tempdir().unwrap();
    let mut place = Place { dir: kit_dir, kit, client, last: 0 };
    let script = "id -u; id -g; echo changed > in; cat in; echo out > a; mkdir d; echo > d/x; rm -r /tmp; ls /dev; : > /dev/null";
    let attempt = place.sh(script);
    let reduction = reduced(&attempt);
    let paths: Vec<_> = reduction.outputs.values().map(|entry| entry.path.to_string()).collect();
    assert_eq!(paths, ["/work/a", "/work/d/x", "/work/in"]);
    let store = ggr_backends::store::FsStore::new(&dir.path().join("store"));
    let out = String::from_utf8(store.get_bytes(reduction.stdout).unwrap()).unwrap();
    assert!(out.starts_with("65534\n65534\nchanged\n"), "{out}");
    let blob = reduction.outputs.values().next().unwrap().blob;
    assert_eq!(store.local_path(blob).unwrap().metadata().unwrap().uid(), nobody);
    assert!(unrepresentable(&place.sh("rm in")).contains("removed `/work/in`"));
    assert!(unrepresentable(&place.sh("rm -r /work/in; mkdir in; echo > in/x")).contains("another kind"));
}

#[test]
fn where_no_namespaces_can_be_had_every_job_is_refused_and_the_reason_is_told() {
    let mut place = Place::new();
    let program = worker_program();
    // A user namespace in which nobody may make another or a mount namespace.
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && echo 0 > /proc/sys/user/max_mnt_namespaces && exec {} {} 1",
        program.display(),
        place.dir.path().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", &script]);
    place.client = Client::start(&mut command).unwrap();
    let hello = place.client.hello.isolation.clone();
    assert!(hello.starts_with("plain: namespaces cannot be made: "), "{hello}");
    let attempt = place.sh("true");
    assert!(format!("{:?}", attempt.outcome).contains("plain mode runs nothing"), "{:?}", attempt.outcome);
    let mut command = worker(place.dir.path(), 1);
    place.client = Client::start(command.arg("plain")).unwrap();
    assert_eq!(place.client.hello.isolation, "plain: asked for");
}
