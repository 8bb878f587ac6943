//! `strip` (binutils' manual, "strip").

use std::sync::Arc;

use super::objcopy::{Effect, Effect::*, rewrite};
use super::{Binutils, answer};
use crate::getopt::{Row, Value::No, Value::Yes};
use crate::model::{FileView, Invocation, Model, Modelled};

pub(super) const STRIP: &[Row<Effect>] = &[
    ("D", No, Plain),
    ("F", Yes, Plain),
    ("I", Yes, InputFormat),
    ("K", Yes, Plain),
    ("M", No, Plain),
    ("N", Yes, Plain),
    ("O", Yes, OutputFormat),
    ("R", Yes, Plain),
    ("S", No, Plain),
    ("U", No, Local),
    ("V", No, Query),
    ("X", No, Plain),
    ("d", No, Plain),
    ("disable-deterministic-archives", No, Local),
    ("discard-all", No, Plain),
    ("discard-locals", No, Plain),
    ("enable-deterministic-archives", No, Plain),
    ("g", No, Plain),
    ("h", No, Query),
    ("help", No, Query),
    ("info", No, Query),
    ("input-target", Yes, InputFormat),
    ("keep-file-symbols", No, Plain),
    ("keep-section", Yes, Plain),
    ("keep-section-symbols", No, Plain),
    ("keep-symbol", Yes, Plain),
    ("merge-notes", No, Plain),
    ("no-merge-notes", No, Plain),
    ("o", Yes, Output),
    ("only-keep-debug", No, Plain),
    ("output-file", Yes, Output),
    ("output-target", Yes, OutputFormat),
    ("p", No, Local),
    ("preserve-dates", No, Local),
    ("remove-relocations", Yes, Plain),
    ("remove-section", Yes, Plain),
    ("s", No, Plain),
    ("strip-all", No, Plain),
    ("strip-debug", No, Plain),
    ("strip-dwo", No, Plain),
    ("strip-symbol", Yes, Plain),
    ("strip-unneeded", No, Plain),
    ("target", Yes, Plain),
    ("v", No, Plain),
    ("verbose", No, Plain),
    ("version", No, Query),
    ("w", No, Plain),
    ("wildcard", No, Plain),
    ("x", No, Plain),
];

/// The model of `strip`.
pub struct Strip {
    shared: Arc<Binutils>,
}

impl Strip {
    /// Makes the model.
    pub fn new(shared: Arc<Binutils>) -> Self {
        Self { shared }
    }
}

impl Model for Strip {
    fn name(&self) -> &str {
        "strip"
    }

    fn handles(&self, tool: &str) -> bool {
        tool == "strip"
    }

    fn model(&self, invocation: &Invocation, files: &dyn FileView) -> Modelled {
        answer(rewrite(&self.shared, STRIP, invocation, files))
    }
}
