//! A first job for a guest that nobody waits for yet.
//!
//! A translated guest has translated nothing when it is restored: its first job took 150 ms, the next ones 12 ms. So
//! a guest that is made ahead of its jobs runs some that do nothing, by the way that every job takes: blob, sandbox, program,
//! harvest, answer. One that is restored because a job waits for it does not: that job would wait longer.

use std::sync::Arc;

use ggr_ir::{BlobId, Command, Entry, Harvest, Job, Kind, Limits, Mode, Network, ReadyThunk, RootPath};

/// How often a guest runs it: its first job took 150 ms, the second 25, the third 16, the hundredth 13.
pub(super) const TIMES: u32 = 3;

/// `write(1, rsp, 1); exit(0)`: the byte (`argc`, so 1) makes the answer carry an output.
const CODE: &[u8] = &[
    0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0x89, 0xe6, 0xba, 1, 0, 0, 0, 0x0f, 0x05, // write
    0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, // exit
];

/// The job, and its only input's bytes.
pub(super) fn job() -> (Job, Vec<u8>) {
    let program = static_program(CODE);
    let path = RootPath::new("/ready").expect("it is a normal path");
    let thunk = ReadyThunk {
        command: Command {
            program: path.clone(),
            args: vec!["/ready".to_owned()],
            env: [].into(),
            dir: RootPath::new("/").expect("it is a normal path"),
        },
        inputs: [(path, Entry { object: BlobId::of(&program), mode: Mode::Executable })].into(),
        outputs: [].into(),
        harvest: Harvest::Everything,
        network: Network::None,
    };
    let (id, thunk) = (thunk.id(), Arc::new(thunk));
    let job = Job { id, thunk, limits: Limits::default(), kind: Kind::Other, label: "warm-up".to_owned() };
    (job, program)
}

/// A static ELF file for x86-64 of these instructions alone, position-dependent, loaded readable and executable as a whole.
pub fn static_program(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    // e_ident, ET_EXEC, EM_X86_64, version 1 (elf(5)).
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0, 1, 0, 0, 0];
    // Entry, program headers at 64, no sections.
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    // Flags; sizes and numbers of headers.
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // PT_LOAD, readable and executable: the whole file.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_writes_one_byte_and_ends_well() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (job, bytes) = job();
        let program = job.thunk.command.program.under(dir.path());
        std::fs::write(&program, bytes).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = std::process::Command::new(&program).output().unwrap();
        assert!(output.status.success() && output.stdout == [1], "{output:?}");
    }
}
