//! The include scanner: which files preprocessing one translation unit reads, exactly as `gcc -M` lists them.
//!
//! A directive-level preprocessor with a real macro table. Each file is lexed once per process into a compact list of
//! directives; text is only passed over. Everything that GCC 12's `libcpp` does that decides which files are opened is done
//! the same way (`directives.cc`, `files.cc`, `macro.cc`, `expr.cc`, `incpath.cc`, `mkdeps.cc`).
//!
//! **Invariant:** a [`Scan`] equals what `gcc -M` lists: the same paths, spelled the same, in the same order. Where that
//! is not certain the answer is [`ScanMiss::NotSure`], and the caller runs the real `gcc -M`.
//!
//! A precompiled header that GCC may take changes nothing in a scan but that it is named: the text is followed as if there
//! were none. What GCC reads with it is for the caller to find out.
//!
//! Left out on purpose, and therefore `NotSure`: most errors that GCC would report, assertions
//! (`#if #cpu(x)`), `__VA_OPT__` in a directive, `__COUNTER__` in a directive, traditional mode, modules, other charsets.
//!
//! ```text
//! let scanner = Scanner::new(Box::new(AskCompiler::default()));
//! let scan: Arc<Scan> = scanner.scan(&request, files)?;       // &ScanRequest, &dyn FileView
//! let bytes = depfile(&scan, &[Target::Quoted("foo.o".into())], &DepfileOptions::default());
//! ```

mod builtin;
mod clean;
mod conditions;
mod depfile;
mod directives;
mod expand;
mod expr;
mod facts;
mod lex;
mod lexed;
mod macros;
mod memo;
mod mode;
mod persist;
mod quick;
mod request;
mod result;
mod scanner;
mod search;
mod symbol;
mod token;
mod traits;
mod unit;
mod watch;

pub use depfile::{DepfileOptions, Target, default_target, depfile};
pub use facts::{AskCompiler, CompilerFacts, Facts};
pub use request::{Compiler, DirClass, DirFlag, Forced, Language, MacroFlag, ScanRequest};
pub use result::{Dep, Precompiled, Scan, ScanMiss};
pub use scanner::Scanner;

#[cfg(test)]
mod tests;
