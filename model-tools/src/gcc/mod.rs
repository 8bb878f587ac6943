//! The model of compiler drivers: `gcc`, `g++`, `cc`, `c++`, `cpp`, `clang`, `clang++`.
//!
//! One thunk for a call, unless stages are asked for ([`stages`]): the driver itself runs in the sandbox, with exactly the caller's arguments, and starts the
//! compiler, the assembler and the linker there as it would here.
//!
//! **Invariant:** the inputs of a thunk are all that the call reads. What is not certain runs here.
//! **Invariant:** a plan is deferrable only if the thunk's outputs and the written depfiles are all that the call leaves.
//!
//! A call that makes a precompiled header is a thunk like any other, and so is one that may take one in place of a header's
//! text ([`precompiled`]).
//!
//! Left out, and therefore run here: Clang's precompiled headers, modules, plugins, specs, profiles that are read back, offloading,
//! other languages than C, C++ and assembler, sources from standard input.

mod by_stamp;
mod call;
mod clang;
#[cfg(test)]
mod complete;
mod environment;
mod fallback;
mod flags;
mod native;
mod outputs;
mod planner;
mod precompiled;
pub(crate) mod response;
mod seen;
mod separable;
mod source;
mod stages;
mod stop;
mod table;
mod text;
mod units;

use std::sync::{Arc, Mutex};

use rustc_hash::FxHashMap;

use crate::link::Linkers;
use crate::model::{FileView, Invocation, Model, Modelled};
use crate::scan::Scanner;
use crate::toolchain::{ToolFiles, Tools};
use environment::Searches;
pub use fallback::PREPROCESSOR_FAILS;
use native::Natives;
use planner::Planner;
use precompiled::Precompiled;
use seen::Seen;
use source::Personality;
use stages::Assemblers;
pub(crate) use text::Texts;

/// The model of `gcc` and its like. One for a session; what it learns of files is shared by all calls.
pub struct Gcc {
    tools: Arc<Tools>,
    linkers: Arc<Linkers>,
    texts: Arc<Texts>,
    scanner: Arc<Scanner>,
    searches: Searches,
    natives: Natives,
    precompiled: Precompiled,
    /// The files of a locale, by the variables that choose it.
    locales: Mutex<FxHashMap<Vec<String>, ToolFiles>>,
    /// Nothing: calls are not cut into stages.
    assemblers: Option<Assemblers>,
}

impl Gcc {
    /// A model over what is known of the machine's tools and headers.
    pub fn new(tools: Arc<Tools>, linkers: Arc<Linkers>, scanner: Arc<Scanner>) -> Self {
        Self {
            tools,
            linkers,
            texts: Arc::default(),
            scanner,
            searches: Searches::default(),
            natives: Natives::default(),
            precompiled: Precompiled::default(),
            locales: Mutex::default(),
            assemblers: None,
        }
    }

    /// With what is known of texts.
    pub(crate) fn with_texts(mut self, texts: Arc<Texts>) -> Self {
        self.texts = texts;
        self
    }

    /// Cuts calls into preprocess, compile and assemble stages where the result is known to be the same.
    pub fn with_stages(mut self) -> Self {
        self.assemblers = Some(Assemblers::default());
        self
    }
}

impl Model for Gcc {
    fn name(&self) -> &str {
        "gcc"
    }

    fn handles(&self, tool: &str) -> bool {
        Personality::of(tool).is_some()
    }

    fn model(&self, invocation: &Invocation, files: &dyn FileView) -> Modelled {
        match Planner::new(self, invocation, &Seen::new(files)).and_then(Planner::plan) {
            Ok(plan) => Modelled::Thunks(Box::new(plan)),
            Err(stop) => stop.into(),
        }
    }
}
