//! `--store s3://…`: what one machine built another takes, from buckets of servers that nobody here wrote, and whatever
//! becomes of the bucket the build is right.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ggr_backends::store::captures::{Captures, Effect, Left};
use ggr_backends::store::shared::{Access, Address, SharedOptions, SharedStore, TieredCache};
use ggr_backends::store::{FsReductionCache, FsStore};
use ggr_ir::{BlobId, Hash, ObjectStore as _, ThunkId};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::s3::proxy::{Fate, Proxy, Request};
use crate::s3::{self, Server};
use crate::twin::{Field, Tree, differences, snapshot};

/// How many sources the program has.
const SOURCES: usize = 4;

/// A program of a few sources whose objects are some hundred kilobytes together.
fn sources() -> Vec<(String, String)> {
    let objects: Vec<_> = (0..SOURCES).map(|n| format!("s{n}.o")).collect();
    let makefile =
        format!("CFLAGS = -O1 -g\nprog: {0}\n\t$(CC) {0} -o prog\n{0}: all.h\n", objects.join(" "));
    let mut files = vec![("Makefile".into(), makefile), ("all.h".into(), "#include <stdio.h>\n".into())];
    for n in 0..SOURCES {
        let mut text =
            format!("#include \"all.h\"\n{}", if n == 0 { "int main(void) { return 0; }\n" } else { "" });
        for f in 0..20 {
            text += &format!("int f{n}_{f}(int v) {{ printf(\"%d\", v + {f}); return v * {n}; }}\n");
        }
        files.push((format!("s{n}.c"), text));
    }
    files
}

/// A program most of whose sources are generated: by python, by bison, and by a program that the build has made.
fn generated() -> Vec<(String, String)> {
    let makefile = "prog: main.o names.o parser.o built.o\n\t$(CC) $^ -o prog\n\
         names.c: tools/names.py names.txt\n\tpython3 tools/names.py names.txt > names.log\n\
         parser.c: parser.y\n\tbison -o parser.c parser.y\n\
         built.c: maker names.txt\n\t./maker < names.txt > built.c\n\
         maker: maker.c\n\t$(CC) maker.c -o maker\n";
    let names = "import sys\nnames = open(sys.argv[1]).read().split()\n\
         open('names.c', 'w').write('const char *names[] = {%s};\\n' % ', '.join('\"%s\"' % n for n in names))\n\
         print('made', len(names))\n";
    let parser =
        "%{\nint yylex(void) { return 0; }\nvoid yyerror(const char *s) { (void)s; }\n%}\n%%\ns: ;\n%%\n";
    let maker = "#include <stdio.h>\nint main(void) { int c, n = 0; while ((c = getchar()) != EOF) n += c == '\\n';\n\
         printf(\"int built = %d;\\n\", n); return 0; }\n";
    let files = [
        ("Makefile", makefile),
        ("tools/names.py", names),
        ("names.txt", "one two\nthree\n"),
        ("parser.y", parser),
        ("maker.c", maker),
        ("main.c", "int yyparse(void); int main(void) { return yyparse(); }\n"),
    ];
    files.map(|(path, text)| (path.into(), text.into())).into()
}

/// How many of its generators run.
const GENERATORS: usize = 3;

/// Two machines, one after the other, at the same path.
struct Team {
    field: Field,
    sources: Vec<(String, String)>,
    expected: Tree,
}

impl Team {
    fn new() -> Self {
        Self::of(sources())
    }

    fn of(sources: Vec<(String, String)>) -> Self {
        let field = Field::new();
        field.lay(&sources);
        let output = field.command("make").arg("-j2").output().expect("make can be run");
        assert!(output.status.success());
        let expected = snapshot(&field.tree());
        Self { field, sources, expected }
    }

    /// A new machine: nothing is there but the sources.
    fn machine(&self) -> &Field {
        self.field.clear();
        self.field.lay(&self.sources);
        &self.field
    }

    /// A build on a new machine with the bucket at this endpoint, which must come out right.
    fn build(&self, endpoint: &str, options: &str) -> Built {
        let words = format!("--json={} {options} make -j2", self.field.beside("events").display());
        let output = run(&mut command(self.machine(), endpoint, &words));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert_eq!(
            differences(&self.expected, &snapshot(&self.field.tree())),
            Vec::<String>::new(),
            "{said}"
        );
        let events = fs::read_to_string(self.field.beside("events")).expect("events were asked for");
        let events =
            events.lines().map(|line| serde_json::from_str(line).expect("an event is JSON")).collect();
        Built { said, events }
    }
}

/// A command behind ggr with the bucket at this endpoint.
fn command(field: &Field, endpoint: &str, words: &str) -> Command {
    let mut command = field.ggr(&format!("--endpoint-url {endpoint} {words}"));
    command.env("GGR_STORE", "s3://team/ci");
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("ggr can be run")
}

/// What a build said.
struct Built {
    said: String,
    events: Vec<Value>,
}

impl Built {
    /// How many thunks ran.
    fn ran(&self) -> usize {
        self.count("finished")
    }

    fn count(&self, name: &str) -> usize {
        self.events.iter().filter(|event| event["event"] == name).count()
    }

    /// How many captured programs ran and how many were repeated.
    fn generators(&self) -> (usize, usize) {
        (self.count("captured"), self.count("repeated"))
    }

    /// A number of the shared store's report.
    fn shared(&self, name: &str) -> u64 {
        let mut reports = self.events.iter().filter(|event| event["event"] == "shared");
        let report = reports.next().expect("a shared store is reported");
        report[name].as_u64().unwrap_or_else(|| panic!("no `{name}` in {report}"))
    }
}

fn check_taken(server: &Server) {
    let team = Team::new();
    let first = team.build(server.endpoint(), "");
    assert!(first.ran() > SOURCES, "{}", first.said);
    assert_eq!(first.shared("stored"), first.ran() as u64, "{}", first.said);
    let second = team.build(server.endpoint(), "");
    assert_eq!((second.ran(), second.shared("up")), (0, 0), "{}", second.said);
    assert_eq!(second.shared("hits"), first.ran() as u64);
    // A listing, a request for each segment, and at most one for each result: how many are grouped depends on how fast each
    // build was. That they are grouped is tested in the store.
    let bound = first.shared("requests") + second.shared("hits");
    assert!(second.shared("requests") <= bound, "{}{}", first.said, second.said);
    let hits = format!("{} from it, 0 put into it", second.shared("hits"));
    assert!(second.said.contains(&hits), "{}", second.said);
    let stats = run(&mut team.field.ggr("stats"));
    let stats = String::from_utf8_lossy(&stats.stdout).into_owned();
    assert!(stats.contains(&format!("hits: 0 local, {} from the shared store", first.ran())), "{stats}");
    // The third time nothing is asked for but what is new.
    fs::remove_file(team.field.tree().join("s1.o")).expect("it was built");
    let again = run(&mut command(&team.field, server.endpoint(), "make"));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("0 from it, 0 put into it; 0 B down, 0 B up, 1 requests"), "{said}");
}

#[test]
fn what_one_machine_built_another_takes_from_s3s() {
    s3::s3s("what_one_machine_built_another_takes_from_s3s").iter().for_each(check_taken);
}

#[test]
fn what_one_machine_built_another_takes_from_moto() {
    s3::moto("what_one_machine_built_another_takes_from_moto").iter().for_each(check_taken);
}

#[test]
fn a_read_only_build_is_served_and_uploads_nothing() {
    let Some(server) = s3::s3s("a_read_only_build_is_served_and_uploads_nothing") else { return };
    let proxy = Proxy::new(&server.address(), |_, _| Fate::Pass);
    let team = Team::new();
    let alone = team.build(proxy.endpoint(), "--store-mode read-only");
    assert!(alone.ran() > SOURCES);
    team.build(server.endpoint(), "");
    let served = team.build(proxy.endpoint(), "--store-mode read-only");
    assert_eq!(served.ran(), 0, "{}", served.said);
    assert!(!proxy.seen().iter().any(Request::writes), "{:?}", proxy.seen());
}

#[test]
fn what_generators_made_on_one_machine_another_takes() {
    let Some(server) = s3::s3s("what_generators_made_on_one_machine_another_takes") else { return };
    let team = Team::of(generated());
    let first = team.build(server.endpoint(), "");
    assert_eq!(first.generators(), (GENERATORS, 0), "{}", first.said);
    assert_eq!(first.shared("stored"), (first.ran() + GENERATORS) as u64, "{}", first.said);
    // Python looks at its script by name, and so at the time of a checkout: that it stands in nothing that is left is known when
    // two have run, wherever they did.
    let learning = team.build(server.endpoint(), "");
    assert_eq!((learning.ran(), learning.generators()), (0, (1, GENERATORS - 1)), "{}", learning.said);
    assert_eq!(learning.shared("stored"), 1, "{}", learning.said);
    // Nothing may be written by those who only read.
    let proxy = Proxy::new(&server.address(), |_, _| Fate::Pass);
    let second = team.build(proxy.endpoint(), "--store-mode read-only");
    assert_eq!((second.ran(), second.generators()), (0, (0, GENERATORS)), "{}", second.said);
    assert_eq!(second.shared("repeated"), GENERATORS as u64);
    assert_eq!(second.shared("hits"), (first.ran() + GENERATORS) as u64);
    assert!(!proxy.seen().iter().any(Request::writes), "{:?}", proxy.seen());
    let stats = run(&mut team.field.ggr("stats"));
    let stats = String::from_utf8_lossy(&stats.stdout).into_owned();
    assert!(stats.contains(&format!("hits: 0 local, {} from", first.ran() + GENERATORS)), "{stats}");
    assert!(stats.contains(&format!("({GENERATORS} of captured programs; ")), "{stats}");
}

/// A file with these bytes, left by somebody who means no good.
fn left(mode: u32) -> Left {
    Left::File { blob: BlobId::of(BAD), mode, mode_was_set: true, in_place: false, mtime: None }
}

const BAD: &[u8] = b"bad";

/// With the credentials of whoever may write to the bucket: publishes a run of the one captured command that this field's
/// repository knows, which has asked nothing, and left other bytes, and this too.
fn deceive(field: &Field, server: &Server, more: Vec<(PathBuf, Left)>) {
    let repository = field.tree().join(".ggr");
    let local = Arc::new(FsStore::new(&repository));
    local.put_bytes(BAD).expect("the store can be written");
    let files = walkdir::WalkDir::new(repository.join("captures")).into_iter().flatten();
    let file =
        files.filter(|entry| entry.file_type().is_file()).last().expect("a run is remembered").into_path();
    let parts: Vec<_> = file.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
    let name: ThunkId = format!("T{}{}", parts[1], parts[0]).parse().expect("the file is named by the key");
    let mut run = Captures::new(&repository, local.clone()).get(name.hash()).runs.remove(0);
    run.facts.clear();
    run.effects.iter_mut().for_each(|effect| effect.left = left(0o644));
    let more = more.into_iter().map(|(path, left)| Effect { path: path.to_str().unwrap().into(), left });
    run.effects.extend(more);
    let user = [rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()];
    let (local_key, user) = (name.hash(), user.map(u32::to_le_bytes).concat());
    let key = [b"ggr shared capture key 1", &local_key.as_bytes()[..], &user];
    let shared = SharedStore::open(SharedOptions {
        address: Address::parse("s3://team/ci").expect("it is an address"),
        endpoint: Some(server.endpoint().to_owned()),
        access: Access::ReadWrite,
        rate: 0,
        memo: field.beside("memo"),
        local: local.clone(),
        notice: Box::new(|text| panic!("{text}")),
    });
    let cache = Arc::new(FsReductionCache::new(&repository, local));
    let tiered = TieredCache::new(cache, shared.expect("the server is there")).expect("threads can be had");
    tiered.offer_captured(Hash::of(&key.concat()), &run);
    assert_eq!(
        tiered.finish(Duration::from_secs(60), |_| true),
        ggr_backends::store::shared::Left::default()
    );
    assert_eq!(tiered.shared().counts().stored, 1);
}

#[test]
fn a_strangers_run_changes_nothing_but_the_project() {
    let name = "a_strangers_run_changes_nothing_but_the_project";
    let Some(server) = s3::s3s(name) else { return };
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_none() {
        // This process writes to the bucket itself, and nothing else can give it credentials.
        let mut again = Command::new(std::env::current_exe().expect("it runs"));
        again.args(["--exact", &format!("shared_cache::{name}")]);
        again.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        let output = run(again.env("AWS_EC2_METADATA_DISABLED", "true"));
        return assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let files =
        [("Makefile", "out: gen.py\n\tpython3 gen.py\n"), ("gen.py", "open('out', 'w').write('good')\n")];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    let field = Field::new();
    let (tree, home) = (field.tree(), field.beside("home"));
    let build = |more: Vec<(PathBuf, Left)>| {
        field.clear();
        field.lay(&files);
        let first = command(&field, server.endpoint(), "--store-mode read-only make").output();
        assert!(first.expect("ggr can be run").status.success());
        deceive(&field, &server, more);
        field.clear();
        field.lay(&files);
        let output = run(&mut command(&field, server.endpoint(), "--store-mode read-only make"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(tree.join("out")).expect("it was built")
    };
    let home_link = || (tree.join("x"), Left::Symlink(home.to_str().unwrap().into()));
    for more in [
        vec![(home.join("evil"), left(0o644))],
        vec![(tree.join("../home/evil"), left(0o644))],
        vec![home_link(), (tree.join("x/evil"), left(0o644))],
        vec![home_link(), (tree.join("x"), Left::Directory(0o777))],
        vec![(tree.join(".git"), Left::Directory(0o755)), (tree.join(".git/config"), left(0o644))],
        vec![(tree.join("tool"), left(0o4755))],
    ] {
        let said = format!("{more:?}");
        assert_eq!(build(more), "good", "the generator itself ran: {said}");
        assert!(!home.join("evil").exists() && !tree.join(".git").exists(), "{said}");
        assert!(!tree.join("tool").exists(), "{said}");
    }
    // Within the project they are believed, as they are about objects: the credentials are what counts.
    assert_eq!(build(vec![(tree.join("also"), left(0o644))]), "bad");
    assert!(tree.join("also").exists());
}

/// A build with a bucket that another machine has filled, through a proxy: the result is right.
fn check_fault(test: &str, decide: fn(&Request, usize) -> Fate) -> Option<(Built, Vec<Request>)> {
    let server = s3::s3s(test)?;
    let team = Team::new();
    team.build(server.endpoint(), "");
    let proxy = Proxy::new(&server.address(), decide);
    Some((team.build(proxy.endpoint(), ""), proxy.seen()))
}

fn check_spoilt(test: &str, spoil: fn(&std::path::Path)) {
    let Some(server) = s3::s3s(test) else { return };
    let team = Team::new();
    let first = team.build(server.endpoint(), "");
    let packs = server.objects("/packs/");
    assert!(!packs.is_empty());
    packs.iter().for_each(|pack| spoil(pack));
    let second = team.build(server.endpoint(), "");
    assert_eq!((second.ran(), second.shared("stored")), (first.ran(), first.ran() as u64), "{}", second.said);
    let third = team.build(server.endpoint(), "");
    assert_eq!((third.ran(), third.shared("up")), (0, 0), "the bucket is whole again: {}", third.said);
}

#[test]
fn objects_that_have_vanished_are_made_and_uploaded_again() {
    check_spoilt("objects_that_have_vanished_are_made_and_uploaded_again", |pack| {
        fs::remove_file(pack).expect("it is there");
    });
}

#[test]
fn objects_that_are_corrupt_are_made_and_uploaded_again() {
    check_spoilt("objects_that_are_corrupt_are_made_and_uploaded_again", |pack| {
        let bytes = fs::read(pack).expect("it is there").iter().map(|byte| byte ^ 1).collect::<Vec<_>>();
        fs::write(pack, bytes).expect("it can be written");
    });
}

#[test]
fn answers_that_are_cut_off_are_asked_for_again() {
    let cut = |request: &Request, before| match request.method == "GET" && before % 2 == 0 {
        true => Fate::Cut,
        false => Fate::Pass,
    };
    let Some((built, seen)) = check_fault("answers_that_are_cut_off_are_asked_for_again", cut) else {
        return;
    };
    assert_eq!(built.ran(), 0, "{}\n{seen:?}", built.said);
}

#[test]
fn a_slow_server_is_waited_for() {
    let Some((built, _)) = check_fault("a_slow_server_is_waited_for", |_, _| Fate::Slow(1 << 20)) else {
        return;
    };
    assert_eq!(built.ran(), 0, "{}", built.said);
}

#[test]
fn a_server_that_says_slow_down_is_asked_again() {
    let busy = |_: &Request, before| if before < 4 { Fate::Refuse(503, "SlowDown") } else { Fate::Pass };
    let Some((built, _)) = check_fault("a_server_that_says_slow_down_is_asked_again", busy) else { return };
    assert_eq!(built.ran(), 0, "{}", built.said);
}

#[test]
fn credentials_that_expire_while_reading_leave_a_local_build_with_one_warning() {
    // After the index was read.
    let expired = |request: &Request, _| match request.target.contains("/packs/") {
        true => Fate::Refuse(400, "ExpiredToken"),
        false => Fate::Pass,
    };
    let test = "credentials_that_expire_while_reading_leave_a_local_build_with_one_warning";
    let Some((built, _)) = check_fault(test, expired) else { return };
    assert!(built.ran() > SOURCES, "{}", built.said);
    assert_eq!(built.said.matches("the credentials have expired").count(), 1, "{}", built.said);
    assert_eq!(built.shared("up"), 0);
}

#[test]
fn credentials_that_expire_while_writing_leave_a_local_build_with_one_warning() {
    let test = "credentials_that_expire_while_writing_leave_a_local_build_with_one_warning";
    let Some(server) = s3::s3s(test) else { return };
    let team = Team::new();
    let proxy = Proxy::new(&server.address(), |request, _| match request.writes() {
        true => Fate::Refuse(400, "ExpiredToken"),
        false => Fate::Pass,
    });
    let built = team.build(proxy.endpoint(), "");
    assert!(built.ran() > SOURCES);
    assert_eq!(built.said.matches("the credentials have expired").count(), 1, "{}", built.said);
    // What was made is kept here, and the next build that uses it uploads it.
    for n in 0..SOURCES {
        fs::remove_file(team.field.tree().join(format!("s{n}.o"))).expect("it was built");
    }
    let again = run(&mut command(&team.field, server.endpoint(), "make"));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains(", 0 ran") && said.contains(&format!("{} put into it", built.ran())), "{said}");
}

#[test]
fn whoever_does_not_want_to_wait_for_uploads_need_not() {
    let Some(server) = s3::s3s("whoever_does_not_want_to_wait_for_uploads_need_not") else { return };
    let team = Team::new();
    let proxy = Proxy::new(&server.address(), |request, _| match request.writes() {
        true => Fate::Slow(20),
        false => Fate::Pass,
    });
    let mut build = command(team.machine(), proxy.endpoint(), "make -j2");
    let mut build = build.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("ggr can be run");
    let mut lines = BufReader::new(build.stderr.take().expect("it is piped")).lines();
    let mut next = || lines.next().expect("more is said").expect("it is text");
    while !next().contains("uploading to s3://team/ci") {}
    let pid = Pid::from_raw(build.id() as i32).expect("it has a number");
    kill_process(pid, Signal::INT).expect("it is ours");
    let said: Vec<String> = lines.map(|line| line.expect("it is text")).collect();
    assert!(build.wait().expect("it ends").success(), "the build itself had ended: {said:?}");
    assert!(said.iter().any(|line| line.contains("results are not in s3://team/ci yet")), "{said:?}");
    assert_eq!(differences(&team.expected, &snapshot(&team.field.tree())), Vec::<String>::new());
}

#[test]
fn a_bucket_that_cannot_be_used_is_an_error_before_the_build() {
    let Some(server) = s3::s3s("a_bucket_that_cannot_be_used_is_an_error_before_the_build") else { return };
    let field = Field::new();
    let check = |command: &mut Command, expected: &[&str]| {
        let output = run(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(121), "{said}");
        assert_eq!(output.stdout, b"", "the build has not begun");
        for text in expected {
            assert!(said.contains(text), "no `{text}` in {said}");
        }
    };
    let mut nobody = command(&field, server.endpoint(), "echo begun");
    check(
        nobody.env_remove("AWS_ACCESS_KEY_ID"),
        &["bucket `team` at http://", "no credentials", "AWS_PROFILE"],
    );
    let mut other = command(&field, server.endpoint(), "echo begun");
    check(
        other.env("AWS_SECRET_ACCESS_KEY", "wrong"),
        &["the credentials are not accepted", "hint: check the access key"],
    );
    let mut missing = command(&field, server.endpoint(), "--store s3://nobody/x echo begun");
    check(
        &mut missing,
        &[
            "cannot use the store `s3://nobody/x`",
            "there is no such bucket",
            "hint: make the bucket `nobody`",
        ],
    );
    let denied = Proxy::new(&server.address(), |_, _| Fate::Refuse(403, "AccessDenied"));
    check(
        &mut command(&field, denied.endpoint(), "echo begun"),
        &["do not allow `s3:ListBucket`", "hint: allow `s3:ListBucket` on `team`"],
    );
    let nowhere =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let nowhere = format!("http://{nowhere}");
    check(
        &mut command(&field, &nowhere, "echo begun"),
        &["it cannot be reached", &nowhere, "hint: check the network"],
    );
}

/// What `ggr doctor` says of the bucket: its exit code, and the row.
fn doctor(field: &Field, endpoint: &str, options: &str) -> (bool, Value) {
    let file = field.beside("doctor");
    let words = format!("--json={} {options} doctor", file.display());
    let output = run(&mut command(field, endpoint, &words));
    let text =
        fs::read_to_string(&file).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let all: Value = serde_json::from_str(&text).expect("one JSON value");
    let rows = all["checks"].as_array().expect("a list of checks");
    let row = rows.iter().find(|row| row["check"] == "shared store").expect("the bucket has a row").clone();
    (output.status.success(), row)
}

#[test]
fn doctor_says_whether_the_bucket_can_be_used_and_what_is_not_allowed() {
    let name = "doctor_says_whether_the_bucket_can_be_used_and_what_is_not_allowed";
    let Some(server) = s3::s3s(name) else { return };
    let field = Field::new();
    let check = |decide: fn(&Request, usize) -> Fate, options, state: &str, texts: &[&str]| {
        let proxy = Proxy::new(&server.address(), decide);
        let (_, row) = doctor(&field, proxy.endpoint(), options);
        assert_eq!(row["state"], state, "{row}");
        let text = row.to_string();
        texts.iter().for_each(|expected| assert!(text.contains(expected), "no `{expected}` in {text}"));
        proxy.seen()
    };
    check(|_, _| Fate::Pass, "", "ok", &["s3://team/ci at http://", "read-write, 0 objects"]);
    assert_eq!(server.objects("/doctor").len(), 1, "one small object stays");
    let seen = check(|_, _| Fate::Pass, "--store-mode read-only", "ok", &["read-only"]);
    assert!(!seen.iter().any(Request::writes), "{seen:?}");

    let put = |request: &Request, _: usize| match request.method.as_str() {
        "PUT" => Fate::Refuse(403, "AccessDenied"),
        _ => Fate::Pass,
    };
    check(put, "", "missing", &["do not allow `s3:PutObject`", "--store-mode read-only"]);
    check(put, "--store-mode read-only", "ok", &[]);
    let delete = |request: &Request, _: usize| match request.method.as_str() {
        "DELETE" => Fate::Refuse(403, "AccessDenied"),
        _ => Fate::Pass,
    };
    check(delete, "", "degraded", &["do not allow `s3:DeleteObject`", "builds work"]);
    let get = |request: &Request, _: usize| match request.method == "GET"
        && !request.target.contains("list-type")
    {
        true => Fate::Refuse(403, "AccessDenied"),
        false => Fate::Pass,
    };
    check(get, "", "missing", &["do not allow `s3:GetObject`", "allow `s3:GetObject` on `team`"]);
    let all = |_: &Request, _: usize| Fate::Refuse(403, "AccessDenied");
    check(all, "", "missing", &["`s3:ListBucket`, `s3:PutObject`"]);
    let (well, row) = doctor(&field, server.endpoint(), "--store s3://nobody/x");
    assert!(!well && row.to_string().contains("make the bucket `nobody`"), "{row}");
}
