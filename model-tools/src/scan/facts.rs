//! What only the compiler itself knows: its predefined macros, its default directories, its attributes and builtins.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::request::{Compiler, Language};

/// Names that GCC treats as macros without listing them in `-dM`. A compiler defines those that [`Facts::special`] lists.
pub(super) const SPECIAL_MACROS: [&str; 17] = [
    "__TIMESTAMP__",
    "__TIME__",
    "__DATE__",
    "__FILE__",
    "__FILE_NAME__",
    "__BASE_FILE__",
    "__LINE__",
    "__INCLUDE_LEVEL__",
    "__COUNTER__",
    "_Pragma",
    "__has_attribute",
    "__has_c_attribute",
    "__has_cpp_attribute",
    "__has_builtin",
    "__has_include",
    "__has_include_next",
    "__has_feature",
];

/// The operators whose values come from [`CompilerFacts::features`].
pub(super) const FEATURE_OPERATORS: [&str; 4] =
    ["__has_attribute", "__has_c_attribute", "__has_cpp_attribute", "__has_builtin"];

/// What a compiler says about itself, for one set of flags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The predefined macros as `#define` lines.
    pub macros: Vec<u8>,
    /// Which of [`SPECIAL_MACROS`] are defined.
    pub special: Vec<String>,
    /// The default directories that exist, in their order.
    pub dirs: Vec<String>,
    /// The default directories that did not exist. When one appears, the facts are out of date.
    pub absent_dirs: Vec<String>,
}

/// Asks a compiler about itself. A caller may keep the answers for as long as [`Compiler::version`] says the same.
pub trait CompilerFacts: Send + Sync {
    /// Predefined macros and default directories.
    fn facts(&self, compiler: &Compiler, dir: &Path) -> io::Result<Facts>;

    /// The values of tests like `__has_attribute(noreturn)`, in the order asked.
    fn features(&self, compiler: &Compiler, dir: &Path, tests: &[String]) -> io::Result<Vec<i64>>;
}

/// The real thing: runs the compiler, with an empty standard input and the variables that add directories removed.
#[derive(Debug, Default)]
pub struct AskCompiler {
    /// The environment for the compiler; empty means `PATH` and `LC_ALL=C` only.
    pub env: BTreeMap<String, String>,
    /// The default directories, which few flags change: of a compiler with only those, in a directory if that counts.
    directories: Mutex<FxHashMap<(Compiler, PathBuf), Directories>>,
}

/// The default directories that exist, and those that do not.
type Directories = (Vec<String>, Vec<String>);

/// Bits of a feature's value that are asked for. The largest today is a date such as 202106, which needs 18.
const FEATURE_BITS: usize = 24;

impl AskCompiler {
    fn run(
        &self,
        compiler: &Compiler,
        dir: &Path,
        args: &[&str],
        input: Option<&[u8]>,
    ) -> io::Result<Output> {
        let mut command = Command::new(&compiler.program);
        command.args(&compiler.flags).args(args).args(["-x", compiler.language.name()]);
        command.arg(if input.is_some() { "-" } else { "/dev/null" });
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").envs(&self.env).env("LC_ALL", "C");
        for name in
            ["CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES"]
        {
            command.env_remove(name);
        }
        command.current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn()?;
        if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
            let input = input.to_vec();
            // A thread of its own, so that neither side waits for the other with a full pipe.
            std::thread::spawn(move || io::Write::write_all(&mut pipe, &input));
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(format!("`{}` failed: {text}", compiler.program.display())));
        }
        Ok(output)
    }

    /// The default directories. Neither debug information nor optimisation nor a standard changes them: those flags are not told
    /// apart.
    fn directories(&self, compiler: &Compiler, dir: &Path) -> io::Result<Directories> {
        let starts = |flag: &str, with: &[&str]| with.iter().any(|start| flag.starts_with(start));
        let flags = compiler.flags.iter().filter(|flag| !starts(flag, &["-O", "-g", "-std="]));
        let flags: Vec<_> = flags.cloned().collect();
        let anywhere = flags.iter().all(|flag| starts(flag, &["-f", "-m", "-pthread"]));
        let base = if anywhere { Path::new("/") } else { dir };
        let key = (Compiler { flags, ..compiler.clone() }, base.to_owned());
        let exists = |name: &String| dir.join(name).is_dir();
        let known = self.directories.lock().expect("no holder panics").get(&key).cloned();
        if let Some((found, absent)) = known
            && found.iter().all(exists)
            && !absent.iter().any(exists)
        {
            return Ok((found, absent));
        }
        let listing = self.run(compiler, dir, &["-E", "-v"], None)?;
        let found = directories(&String::from_utf8_lossy(&listing.stderr));
        self.directories.lock().expect("no holder panics").insert(key, found.clone());
        Ok(found)
    }
}

impl CompilerFacts for AskCompiler {
    fn facts(&self, compiler: &Compiler, dir: &Path) -> io::Result<Facts> {
        let mut probe = String::new();
        for (index, name) in SPECIAL_MACROS.iter().enumerate() {
            probe.push_str(&format!("#ifdef {name}\n#define {MARK}{index}\n#endif\n"));
        }
        // One run for both: the marks are listed among the macros.
        let answer = self.run(compiler, dir, &["-E", "-dM", "-nostdinc"], Some(probe.as_bytes()))?.stdout;
        let special = numbers(&answer)
            .filter_map(|index| SPECIAL_MACROS.get(usize::try_from(index).ok()?))
            .map(|name| (*name).to_owned())
            .collect();
        let mark = format!("#define {MARK}");
        let theirs = |line: &&[u8]| !line.starts_with(mark.as_bytes());
        let macros =
            answer.split_inclusive(|byte| *byte == b'\n').filter(theirs).flatten().copied().collect();
        let (dirs, absent_dirs) = self.directories(compiler, dir)?;
        Ok(Facts { macros, special, dirs, absent_dirs })
    }

    fn features(&self, compiler: &Compiler, dir: &Path, tests: &[String]) -> io::Result<Vec<i64>> {
        let mut probe = String::new();
        for test in tests {
            for bit in 0..FEATURE_BITS {
                probe.push_str(&format!("#if ({test}) >> {bit} & 1\n{MARK}1\n#else\n{MARK}0\n#endif\n"));
            }
        }
        let answer = self.run(compiler, dir, &["-E", "-P", "-nostdinc", "-w"], Some(probe.as_bytes()))?;
        let bits: Vec<i64> = numbers(&answer.stdout).collect();
        if bits.len() != tests.len() * FEATURE_BITS {
            return Err(io::Error::other("the compiler's answer has another length than the question"));
        }
        let value = |bits: &[i64]| bits.iter().enumerate().map(|(at, bit)| bit << at).sum();
        Ok(bits.chunks(FEATURE_BITS).map(value).collect())
    }
}

impl Language {
    /// Attributes and builtins that common headers ask for: one query fetches them all.
    pub(crate) fn usual_features(self) -> Vec<String> {
        let mut tests = Vec::new();
        if self == Language::Assembler {
            return tests;
        }
        for name in USUAL_ATTRIBUTES.split_whitespace() {
            tests.push(format!("__has_attribute({name})"));
        }
        for name in USUAL_BUILTINS.split_whitespace() {
            tests.push(format!("__has_builtin({name})"));
        }
        if self == Language::Cxx {
            for name in USUAL_STANDARD_ATTRIBUTES.split_whitespace() {
                tests.push(format!("__has_cpp_attribute({name})"));
            }
        }
        tests
    }
}

const USUAL_ATTRIBUTES: &str = "\
    acquire_capability acquired_after acquired_before annotate assert_exclusive_lock capability enable_if \
    exclusive_lock_function exclusive_locks_required exclusive_trylock_function guarded_by lifetimebound lock_returned \
    lockable locks_excluded no_thread_safety_analysis pt_guarded_by release_capability requires_capability \
    scoped_lockable shared_lock_function shared_locks_required shared_trylock_function unlock_function \
    __alloc_align__ alloc_align \
    access alloc_size aligned alias always_inline artificial cold const constructor deprecated destructor fallthrough \
    error flatten format format_arg gnu_inline hot malloc may_alias noclone noinline nonnull nonstring noreturn nothrow \
    no_sanitize no_sanitize_address __access__ __alloc_size__ __always_inline__ __artificial__ __cold__ __const__ \
    __copy__ __deprecated__ __diagnose_if__ __error__ __fallthrough__ __fd_arg__ __format__ __format_arg__ \
    __gnu_inline__ __hot__ __malloc__ __may_alias__ __noclone__ __nonnull__ __nonstring__ __nothrow__ __noreturn__ \
    __pure__ __retain__ __returns_nonnull__ __unused__ __used__ __visibility__ __warn_unused_result__ __warning__ \
    packed pure returns_nonnull retain section sentinel unused used vector_size visibility warn_unused_result warning \
    weak __init_priority__ init_priority __no_stack_protector__ no_stack_protector __ifunc__ ifunc symver __symver__ \
    target_clones __abi_tag__ __null_terminated_string_arg__ __weak__ __alias__ __cleanup__ cleanup counted_by \
    __counted_by__ __noinline__ __overloadable__ __attribute_noinline__ __externally_visible__ externally_visible";

const USUAL_BUILTINS: &str = "\
    __builtin_addressof __builtin_add_overflow __builtin_alloca __builtin_assume __builtin_assume_aligned \
    __builtin_bit_cast __builtin_bswap16 __builtin_bswap32 __builtin_bswap64 __builtin_clz __builtin_clzll \
    __builtin_constant_p __builtin_ctz __builtin_ctzll __builtin_debugtrap __builtin_expect \
    __builtin_expect_with_probability __builtin_has_attribute __builtin_is_constant_evaluated __builtin_launder \
    __builtin_mul_overflow __builtin_object_size __builtin_dynamic_object_size __builtin_offsetof __builtin_popcount \
    __builtin_prefetch __builtin_sub_overflow __builtin_trap __builtin_types_compatible_p __builtin_unreachable \
    __builtin_va_list __builtin_memcmp __builtin_strlen __builtin_strcmp __builtin_memcpy __builtin_choose_expr \
    __builtin_return_address __builtin_frame_address __builtin_extract_return_addr __builtin_shufflevector \
    __builtin_source_location __builtin_clear_padding __builtin_ia32_pause __builtin_toupper __builtin_free \
    __is_aggregate __is_final __is_same __is_trivially_constructible __is_trivially_copyable __is_union \
    __has_unique_object_representations __is_layout_compatible __is_pointer_interconvertible_base_of \
    __builtin_is_corresponding_member __builtin_is_pointer_interconvertible_with_class __is_invocable \
    __is_nothrow_convertible __is_constructible __is_assignable __reference_constructs_from_temporary \
    __reference_converts_from_temporary __remove_cv __remove_reference __remove_cvref __is_array __is_function \
    __builtin_operator_new __builtin_operator_delete __builtin_FILE __builtin_LINE __builtin_FUNCTION \
    __array_rank __array_extent __make_integer_seq __integer_pack __type_pack_element __underlying_type \
    __builtin_fclose __sync_fetch_and_add __sync_synchronize __atomic_load_n __atomic_store_n __c11_atomic_load";

const USUAL_STANDARD_ATTRIBUTES: &str = "\
    assume carries_dependency deprecated fallthrough likely maybe_unused no_unique_address nodiscard noreturn unlikely \
    gnu::always_inline gnu::cold gnu::const gnu::fallthrough gnu::format gnu::hot gnu::malloc gnu::noinline \
    gnu::nonnull gnu::pure gnu::returns_nonnull gnu::unused gnu::used gnu::visibility gnu::warn_unused_result \
    __no_unique_address__ clang::fallthrough clang::lifetimebound clang::musttail clang::no_destroy clang::reinitializes \
    clang::require_constant_initialization clang::standalone_debug clang::trivial_abi msvc::no_unique_address";

/// Marks our own words in the compiler's output, where there are others.
const MARK: &str = "ggr_scan_";

fn numbers(text: &[u8]) -> impl Iterator<Item = i64> {
    let words = text.split(u8::is_ascii_whitespace);
    words.filter_map(|word| std::str::from_utf8(word.strip_prefix(MARK.as_bytes())?).ok()?.parse().ok())
}

/// The lists in the output of `-v`: directories that are searched, and those that were not there.
fn directories(text: &str) -> (Vec<String>, Vec<String>) {
    let (mut dirs, mut absent) = (Vec::new(), Vec::new());
    let mut inside = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("ignoring nonexistent directory \"") {
            absent.push(rest.trim_end_matches('"').to_owned());
        } else if line.starts_with("#include <...> search starts here:") {
            inside = true;
        } else if line.starts_with("End of search list.") {
            inside = false;
        } else if let (true, Some(dir)) = (inside, line.strip_prefix(' ')) {
            dirs.push(dir.to_owned());
        }
    }
    (dirs, absent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_directories_is_read() {
        let text = "ignoring nonexistent directory \"/a\"\n#include \"...\" search starts here:\n\
                    #include <...> search starts here:\n /b\n /c d\nEnd of search list.\n";
        assert_eq!(directories(text), (vec!["/b".into(), "/c d".into()], vec!["/a".into()]));
    }

    #[test]
    fn macros_and_marks_of_one_run_are_told_apart() {
        let compiler = |flags: &[&str]| Compiler {
            program: "/usr/bin/gcc".into(),
            version: 0,
            language: Language::C,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        let ask = AskCompiler::default();
        let plain = ask.facts(&compiler(&["-g3"]), Path::new("/tmp")).unwrap();
        let listed =
            Command::new("gcc").args(["-g3", "-E", "-dM", "-nostdinc", "-x", "c", "/dev/null"]).output();
        assert_eq!(String::from_utf8_lossy(&plain.macros), String::from_utf8_lossy(&listed.unwrap().stdout));
        assert!(
            ["__TIME__", "__COUNTER__", "__has_include"]
                .iter()
                .all(|name| plain.special.iter().any(|s| s == name))
        );

        assert!(plain.dirs.iter().any(|dir| dir == "/usr/include"), "{:?}", plain.dirs);
        let other = ask.facts(&compiler(&["-O2", "-std=c99"]), Path::new("/")).unwrap();
        assert_eq!((&other.dirs, other.special.len()), (&plain.dirs, plain.special.len()));
        assert_eq!(ask.directories.lock().unwrap().len(), 1, "asked once");
        let elsewhere = ask.facts(&compiler(&["--sysroot=/nowhere"]), Path::new("/")).unwrap();
        assert!(!elsewhere.dirs.iter().any(|dir| dir == "/usr/include"), "{:?}", elsewhere.dirs);
    }
}
