//! `ld`, called by itself: kernels, boot loaders, `-r` links of build systems. What it reads is [`crate::link`]'s.

use std::sync::Arc;

use ggr_ir::Kind;

use super::{Binutils, Draft, answer, promise};
use crate::link::Halt;
use crate::model::{FileView, Invocation, Model, Modelled, Plan};

/// The variables that change what a linker does; `PATH` is passed for its own directory only.
const ENVIRONMENT: &[&str] = &[
    "COLLECT_NO_DEMANGLE",
    "GNUTARGET",
    "LDEMULATION",
    "LD_LIBRARY_PATH",
    "LD_RUN_PATH",
    "SOURCE_DATE_EPOCH",
];

/// The model of `ld`, `ld.bfd`, `ld.gold` and `gold`.
pub struct Ld {
    shared: Arc<Binutils>,
}

impl Ld {
    /// Makes the model.
    pub fn new(shared: Arc<Binutils>) -> Self {
        Self { shared }
    }

    fn plan(&self, invocation: &Invocation, files: &dyn FileView) -> Result<Box<Plan>, Halt> {
        let shared = &self.shared;
        let mut draft = Draft::new(invocation, files, &shared.tools)?;
        draft.pass(ENVIRONMENT);
        let args = draft.args.clone();
        let linked = shared.linkers.ld_inputs(invocation, &args, &mut draft.inputs, files, &shared.tools)?;
        for output in linked.outputs {
            draft.outputs.push((output.path, output.permissions));
        }
        let plan = draft.plan(Kind::Link)?;
        promise(&shared.linkers, &plan, linked.facts);
        Ok(plan)
    }
}

impl Model for Ld {
    fn name(&self) -> &str {
        "ld"
    }

    fn handles(&self, tool: &str) -> bool {
        matches!(tool, "ld" | "ld.bfd" | "ld.gold" | "gold")
    }

    fn model(&self, invocation: &Invocation, files: &dyn FileView) -> Modelled {
        answer(self.plan(invocation, files))
    }
}
