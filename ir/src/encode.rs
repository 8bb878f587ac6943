//! The one canonical encoding of a thunk, which decides its id.
//!
//! Hand-written and versioned: `"ggr-thunk"`, a version byte, then each field with lengths in front (unsigned 32-bit,
//! little-endian), maps in the order of their keys; at the end the network, unless there is none. **Invariant:** equal thunks, equal bytes, and the reverse.
//! Pinned by vectors in `tests/vectors/`. To change what is hashed, raise [`VERSION`] and write new vectors.

use std::collections::BTreeMap;

use crate::hash::{BlobId, Hash, ThunkId};
use crate::job::Network;
use crate::thunk::{Command, Entry, Harvest, Mode, Object, Thunk};

/// The version of the encoding.
pub const VERSION: u8 = 1;

/// How an input's object is written into the encoding.
pub trait EncodeObject {
    /// Appends the object.
    fn encode(&self, out: &mut Vec<u8>);
}

impl EncodeObject for BlobId {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(b'V');
        out.extend_from_slice(self.hash().as_bytes());
        out.extend_from_slice(&self.size().to_le_bytes());
    }
}

impl EncodeObject for Object {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Object::Blob(id) => id.encode(out),
            Object::Output(output) => {
                out.push(b'T');
                out.extend_from_slice(output.thunk.hash().as_bytes());
                text(out, &output.name.0);
            }
        }
    }
}

impl<O: EncodeObject> Thunk<O> {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + 96 * self.inputs.len());
        out.extend_from_slice(b"ggr-thunk");
        out.push(VERSION);
        command(&mut out, &self.command);
        number(&mut out, self.inputs.len());
        for (path, entry) in &self.inputs {
            text(&mut out, path.as_str());
            input(&mut out, entry);
        }
        number(&mut out, self.outputs.len());
        for (name, path) in &self.outputs {
            text(&mut out, &name.0);
            text(&mut out, path.as_str());
        }
        out.push(match self.harvest {
            Harvest::Declared => 0,
            Harvest::Everything => 1,
        });
        match self.network {
            Network::None => {}
            Network::Tenant => out.push(1),
            Network::Own => out.push(2),
        }
        out
    }

    /// The thunk's id: the hash of its canonical bytes.
    pub fn id(&self) -> ThunkId {
        ThunkId::new(Hash::of(&self.encode()))
    }
}

fn command(out: &mut Vec<u8>, command: &Command) {
    text(out, command.program.as_str());
    number(out, command.args.len());
    command.args.iter().for_each(|arg| text(out, arg));
    environment(out, &command.env);
    text(out, command.dir.as_str());
}

fn environment(out: &mut Vec<u8>, env: &BTreeMap<String, String>) {
    number(out, env.len());
    for (name, value) in env {
        text(out, name);
        text(out, value);
    }
}

fn input<O: EncodeObject>(out: &mut Vec<u8>, entry: &Entry<O>) {
    out.push(match entry.mode {
        Mode::Regular => 0,
        Mode::Executable => 1,
        Mode::Symlink => 2,
        Mode::Directory => 3,
    });
    entry.object.encode(out);
}

fn number(out: &mut Vec<u8>, n: usize) {
    let n = u32::try_from(n)
        .expect("no field of a thunk reaches 4 GiB: the kernel bounds argument lists and paths");
    out.extend_from_slice(&n.to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    number(out, text.len());
    out.extend_from_slice(text.as_bytes());
}
