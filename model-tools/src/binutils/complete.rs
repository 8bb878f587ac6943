//! Proves that the thunks of these tools hold all that they read: each command is run in a root made of its thunk's
//! inputs alone, then here, and must leave the same bytes, messages and exit status.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::ar::Archiver;
use super::assembler::Assembler;
use super::ld::Ld;
use super::objcopy::Objcopy;
use super::strip::Strip;
use super::*;
use crate::model::Model;
use crate::models::tool_name;
use crate::staging::{Root, can_run, file, prepare};
use crate::testing::DiskView;

/// What the commands of this file work on.
const FILES: &str = r#"
mkdir -p sub inc
printf 'int g(int);int f(int x){return g(x)+1;}\n' > f.c
printf 'int g(int x){return x*2;}\n' > g.c
printf 'int f(int);int main(void){return f(1);}\n' > main.c
for x in f g main; do gcc -g -O1 -c $x.c; gcc -flto -O1 -c $x.c -o $x.lto.o; done
gcc -o prog main.o f.o g.o; gcc -shared -fPIC -g f.c g.c -o lib.so
ar rc old.a f.o; ar rc other.a g.o; (cd sub && ar rcT thin.a ../f.o); cp f.o sub/member.o
gcc -S f.c -o f.s; printf '.include "x.inc"\n.data\n.incbin "sub/blob"\n.incbin "b2"\n' > inc.s
printf '.text\n nop\n .include "y.inc"\n' > inc/x.inc; printf ' nop\n' > inc/y.inc; printf blob > sub/blob; printf two > inc/b2
printf 'f renamed\n' > syms; printf 'f\n' > keep; printf -- 'f.o g.o' > list.rsp
printf 'SECTIONS { .text 0x1000 : { *(.text*) } .data : { *(.data*) } /DISCARD/ : { *(*) } }\n' > kernel.ld
printf '.globl _start\n_start: nop\n' > start.s; as start.s -o start.o
printf 'GROUP(f.o g.o)\n' > libboth.so
ln -s ../f.o sub/link.o
cp old.a odd.a; chmod 660 odd.a; cp prog odd; chmod 777 odd; cp f.o hard.o; ln hard.o hard2.o
"#;

/// Commands, one a line. `~` in front: what it leaves depends on more than a plan says, so the caller must wait.
const COMMANDS: &str = "
ar rc new.a f.o g.o
ar rcs sub/new.a f.o sub/member.o
ar cru new.a f.o g.o
ar -rcs new.a f.o g.o
ar qc new.a f.o g.o
ar rcD new.a f.o
ar rcv new.a f.o
ar r new.a f.o
ar rcS new.a f.o g.o
ar rc new.a
ar rc old.a g.o
ar r old.a f.o
ar q old.a g.o
ar d old.a f.o
ar m old.a f.o
ar s old.a
ar ra f.o old.a g.o
ar rcT new.a f.o sub/member.o
ar rc --thin sub/new.a f.o
ar rT sub/thin.a g.o
ar rcT new.a sub/thin.a g.o
ar rc new.a f.lto.o g.lto.o
ar rcP new.a sub/link.o
ar rc new.a @list.rsp
/usr/bin/ar rc new.a f.o
x86_64-linux-gnu-ar rc new.a f.o
gcc-ar rc new.a f.lto.o g.o
gcc-ar-12 rcs new.a f.o
gcc-ranlib old.a
ranlib old.a
ranlib -D old.a other.a
ranlib sub/thin.a
strip prog
strip -s -o stripped prog
strip --strip-unneeded lib.so
strip -g f.o g.o
strip --strip-debug -o f2.o f.o
strip -g old.a
strip -R .comment -K f lib.so
strip -o sub/x.so -x lib.so
strip -v -o p2 prog
objcopy f.o f3.o
objcopy --only-keep-debug prog prog.debug
objcopy --strip-debug --add-gnu-debuglink=lib.so prog p3
~objcopy -O binary -j .text f.o f.bin
~objcopy -O binary prog prog.bin
objcopy -I binary -O elf64-x86-64 -B i386:x86-64 sub/blob blob.o
objcopy --redefine-syms=syms f.o f4.o
objcopy --redefine-sym f=ff f.o
objcopy --add-section .extra=sub/blob --set-section-flags .extra=alloc f.o f5.o
objcopy --update-section .comment=sub/blob f.o f5.o
~objcopy --dump-section .text=text.bin f.o f6.o
objcopy --keep-symbols keep --strip-unneeded f.o f7.o
objcopy --compress-debug-sections=zlib f.o f8.o
objcopy --localize-hidden --weaken -N f.c f.o f9.o
objcopy -O srec f.o f.srec
objcopy -g g.o g.o
ar r odd.a g.o
strip odd
objcopy old.a new.a
as -o n.o f.s
as f.s
as --64 -g -o n.o f.s
as -Iinc -I sub -o n.o inc.s
~as --MD n.d -o n.o f.s
as -march=generic64+avx2 --noexecstack --defsym X=1 -o n.o start.s f.s
ld -r -o all.o f.o g.o
ld -o kernel -T kernel.ld start.o f.o g.o
ld -o kernel start.o -e _start
ld -o kernel -L. -l:old.a start.o --whole-archive other.a --no-whole-archive -Map=kernel.map
ld -shared -o n.so f.o g.o --build-id=none -soname n.so.1
ld -r -b binary -o blob.o sub/blob
ld.gold -o kernel start.o
ld -L. -lboth start.o -o kernel
ld -o kernel start.o -L/usr/lib/x86_64-linux-gnu -lm -lc -dynamic-linker /lib64/ld-linux-x86-64.so.2
ld -o kernel start.o other.a sub/thin.a
";

/// Commands that run here.
const LOCAL: &str = "
ar t old.a
ar x old.a
ar p old.a
ar u old.a f.o
ar rcU new.a f.o
ar -M
ar rc new.a missing.o
ar d missing.a f.o
ar rc sub/nodir/new.a f.o
ranlib -t old.a
strip -p prog
strip --version
strip missing
objcopy f.o /dev/null
objcopy --frobnicate f.o
objcopy -p f.o f2.o
as -alh f.s
as -o n.o -
as
ld --version
ld -v
ld --stats -r -o x.o f.o
ld -r -o f.o f.o g.o
strip -o sub/link.o f.o
strip hard.o
objcopy f.o ./f.o
";

struct Bench {
    dir: PathBuf,
    view: DiskView,
    models: Vec<Box<dyn Model>>,
    _temp: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().canonicalize().unwrap();
        prepare(&dir, FILES);
        let shared = Arc::new(Binutils::default());
        let models: Vec<Box<dyn Model>> = vec![
            Box::new(Archiver::new(shared.clone())),
            Box::new(Strip::new(shared.clone())),
            Box::new(Objcopy::new(shared.clone())),
            Box::new(Assembler::new(shared.clone())),
            Box::new(Ld::new(shared)),
        ];
        Self { dir, view: DiskView::new(), models, _temp: temp }
    }

    fn model(&self, line: &str) -> (Invocation, Modelled) {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let program = Path::new("/usr/bin").join(&args[0]).canonicalize().unwrap();
        let env = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/root"), ("LANG", "C.UTF-8")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let invocation = Invocation { program, args, env, dir: self.dir.clone(), stderr_is_terminal: false };
        let name = tool_name(&invocation.program);
        let model = self.models.iter().find(|model| model.handles(&name)).expect("each tool has a model");
        let modelled = model.model(&invocation, &self.view);
        (invocation, modelled)
    }

    /// Runs a command in both places; leaves the tree as it was.
    fn compare(&self, line: &str) -> Result<(), String> {
        let (waits, line) = line.strip_prefix('~').map_or((false, line), |line| (true, line));
        let (invocation, modelled) = self.model(line);
        let Modelled::Thunks(plan) = modelled else { return Err(format!("{line}: {modelled:?}")) };
        let (thunk, _) = &plan.thunks[0];
        let in_place =
            thunk.inputs.keys().any(|path| plan.outputs.iter().any(|output| output.path == path.as_path()));
        if plan.deferrable == (waits || in_place) {
            return Err(format!("{line}: deferrable is {}", plan.deferrable));
        }
        let root = Root::stage(&self.view, &thunk.inputs);
        let there = root.run(&thunk.command.args, &thunk.command.env, &self.dir);
        let before = tree(&self.dir);
        let mut command = Command::new("/usr/bin/env");
        command.arg("-C").arg(&self.dir).args(&invocation.args);
        let here = command.env_clear().envs(&invocation.env).output().unwrap();
        let after = tree(&self.dir);
        let verdict = self.verdict(line, &plan, &before, &after, &root);
        let text = |output: &std::process::Output| {
            plain(&String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()))
        };
        if !here.status.success() || here.status != there.status || text(&here) != text(&there) {
            return Err(format!("{line}: {}\n--- there {}\n{}", text(&here), there.status, text(&there)));
        }
        restore(&before, &after);
        verdict
    }

    fn verdict(
        &self,
        line: &str,
        plan: &Plan,
        before: &Tree,
        after: &Tree,
        root: &Root,
    ) -> Result<(), String> {
        for output in &plan.outputs {
            let (here, there) = (after.get(&output.path), root.file(&output.path));
            let bytes = |file: &(Vec<u8>, u32)| file.0.clone();
            if here.is_none() || here.map(bytes) != there.as_ref().map(bytes) {
                return Err(format!("{line}: {} differs", output.path.display()));
            }
            let bits = match before.get(&output.path) {
                Some((_, bits))
                    if plan.thunks[0].0.inputs.keys().any(|path| path.as_path() == output.path) =>
                {
                    *bits
                }
                _ => output.permissions & !0o022,
            };
            if here.map(|(_, bits)| *bits) != Some(bits) {
                return Err(format!("{line}: {} has the mode {here:?}", output.path.display()));
            }
        }
        let planned = |path: &Path| plan.outputs.iter().any(|output| output.path == path);
        match after.iter().find(|(path, file)| before.get(*path) != Some(file) && !planned(path)) {
            Some((path, _)) => Err(format!("{line}: {} is not in the plan", path.display())),
            None => Ok(()),
        }
    }
}

type Tree = BTreeMap<PathBuf, (Vec<u8>, u32)>;

fn tree(dir: &Path) -> Tree {
    let mut found = Tree::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else if !path.is_symlink() {
            found.insert(path.clone(), file(&path).unwrap());
        }
    }
    found
}

fn restore(before: &Tree, after: &Tree) {
    for (path, file) in after {
        match before.get(path) {
            Some(old) if old != file => std::fs::write(path, &old.0).unwrap(),
            Some(_) => {}
            None => std::fs::remove_file(path).unwrap(),
        }
    }
}

/// Without the names of temporary files.
fn plain(text: &str) -> String {
    let words = text.split_inclusive([' ', '\n', '/', '`', '\'']);
    words.map(|word| if word.starts_with("st") && word.len() > 7 { "TEMP" } else { word }).collect()
}

#[test]
fn a_tool_in_a_root_of_its_inputs_leaves_the_same_bytes() {
    if !can_run() {
        return;
    }
    let bench = Bench::new();
    let lines: Vec<&str> = COMMANDS.lines().filter(|line| !line.is_empty()).collect();
    let failures: Vec<String> = lines.iter().filter_map(|line| bench.compare(line).err()).collect();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), lines.len(), failures.join("\n"));
}

#[test]
fn what_cannot_be_a_thunk_runs_here() {
    let bench = Bench::new();
    for line in LOCAL.lines().filter(|line| !line.is_empty()) {
        let (_, modelled) = bench.model(line);
        assert!(matches!(modelled, Modelled::RunHere(_)), "{line}: {modelled:?}");
    }
}

#[test]
fn what_is_rewritten_is_deferred_only_if_it_is_still_to_be_made() {
    let bench = Bench::new();
    let plan = |line: &str| match bench.model(line).1 {
        Modelled::Thunks(plan) => plan,
        other => panic!("{line}: {other:?}"),
    };
    let made = plan("ar rc later.a f.o");
    assert!(made.deferrable);
    assert!(!plan("ranlib old.a").deferrable);
    std::fs::write(bench.dir.join("later.a"), ggr_ir::placeholder::bytes(&made.outputs[0].output)).unwrap();
    let indexed = plan("ranlib later.a");
    assert!(indexed.deferrable);
    assert!(indexed.thunks[0].0.waits_for().contains(&made.outputs[0].output));
    std::fs::write(bench.dir.join("later.a"), ggr_ir::placeholder::bytes(&indexed.outputs[0].output))
        .unwrap();
    assert!(plan("strip -g later.a").deferrable);

    let unknown = OutputRef { thunk: ggr_ir::ThunkId::synthetic(9), name: "unknown".into() };
    std::fs::write(bench.dir.join("unknown"), ggr_ir::placeholder::bytes(&unknown)).unwrap();
    assert!(plan("strip unknown").deferrable);
    // Whether the copy is executable hangs on what it will be.
    assert!(!plan("strip -o copy unknown").deferrable);
}
