//! The launcher: the tiny static program that stands in place of `gcc`, `ar`, … and asks the coordinator what to do.
//!
//! It has no run-time initialisation (`no_main`): signal dispositions, the environment and every descriptor reach the
//! real tool as the caller left them. `cli/build.rs` compiles this file by itself, statically, without any crate; the
//! coordinator embeds the result and writes a copy for each session with the socket's path in it.
#![no_main]
#![allow(unsafe_code, reason = "this program is system calls; each block says why it is sound")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "the protocol file is shared with a library")]

use std::ffi::{CString, OsStr, c_char, c_int};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;

#[path = "../../../ir/src/protocol/launcher.rs"]
mod protocol;

use protocol::{LINKED, Reply, Request, SOCKET_MARK};

/// Where the session writes its socket's path: the mark, then the path, then a NUL; then [`LINKED`], if the launcher stands
/// in a directory of links that is first in `PATH`, or NUL, if it is mounted over the tool's own file; then NULs.
#[used]
static SOCKET: [u8; 128] = {
    let mut bytes = [0u8; 128];
    let mut i = 0;
    while i < SOCKET_MARK.len() {
        bytes[i] = SOCKET_MARK[i];
        i += 1;
    }
    bytes
};

/// What the shell says of a command that ran and could not be served.
const EXIT_UNSERVED: c_int = 125;

const SIG_DFL: usize = 0;

unsafe extern "C" {
    fn umask(mask: u32) -> u32;
    fn fork() -> c_int;
    fn execv(path: *const c_char, argv: *const *const c_char) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
    fn raise(signal: c_int) -> c_int;
    fn signal(signal: c_int, handler: usize) -> usize;
}

/// Entry point, called by the C run-time.
#[unsafe(no_mangle)]
pub extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    match serve(argc, argv) {
        Ok(status) => status,
        Err(e) => {
            let _ = writeln!(io::stderr(), "ggr: the coordinator of this build cannot be reached: {e}");
            EXIT_UNSERVED
        }
    }
}

fn serve(argc: c_int, argv: *const *const c_char) -> io::Result<c_int> {
    let mut socket = UnixStream::connect(OsStr::from_bytes(&socket_path()))?;
    socket.write_all(&request(argc, argv)?.to_frame())?;
    match Reply::from_frame(&protocol::read_frame(&socket)?)? {
        Reply::Exit { code, stdout, stderr } => {
            // The caller may have closed its end: the real tool would not notice before it writes, nor do we.
            let _ = io::stdout().write_all(&stdout).and_then(|()| io::stdout().flush());
            let _ = io::stderr().write_all(&stderr);
            Ok(c_int::from(code))
        }
        Reply::Exec(path) => run(&path, argv, &mut socket),
        Reply::Become(path) => {
            drop(socket);
            Err(replace(&path, argv)?)
        }
        Reply::Signal(number) => Ok(end_by(c_int::from(number))),
        Reply::Fail(message) => {
            let _ = io::stderr().write_all(&message);
            Ok(EXIT_UNSERVED)
        }
    }
}

/// What the session wrote behind the mark.
fn written() -> &'static [u8] {
    // The compiler must not take the static's initial bytes for granted: the file is patched after it was built.
    // SAFETY: the static is 128 initialised bytes.
    let bytes =
        unsafe { std::slice::from_raw_parts(std::hint::black_box(&raw const SOCKET).cast::<u8>(), 128) };
    &bytes[SOCKET_MARK.len()..]
}

fn socket_path() -> Vec<u8> {
    let path = written();
    path[..path.iter().position(|&b| b == 0).unwrap_or(path.len())].to_vec()
}

/// The directory of links that this launcher stands in, if that is how it came to be executed.
fn links() -> Option<Vec<u8>> {
    let flag = written().iter().position(|&b| b == 0)? + 1;
    if written().get(flag) != Some(&LINKED) {
        return None;
    }
    let own = std::fs::read_link("/proc/self/exe").ok()?;
    Some(own.parent()?.as_os_str().as_bytes().to_vec())
}

/// Takes the links out of `PATH`: the real tool, and what it calls, is to find what it would find without us. (A gcc that
/// found itself among the links would look for its own files beside them.)
fn leave_links(links: &[u8]) {
    let Some(path) = std::env::var_os("PATH") else { return };
    let kept: Vec<&[u8]> = path.as_bytes().split(|&b| b == b':').filter(|dir| *dir != links).collect();
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("PATH", OsStr::from_bytes(&kept.join(&b':'))) };
}

fn request(argc: c_int, argv: *const *const c_char) -> io::Result<Request> {
    let args = (0..argc as usize)
        // SAFETY: the C run-time passes `argc` valid strings in `argv`.
        .map(|i| unsafe { std::ffi::CStr::from_ptr(*argv.add(i)) }.to_bytes().to_vec())
        .collect();
    let env =
        std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect();
    // SAFETY: umask cannot fail, and this process has one thread.
    let mask = unsafe {
        let mask = umask(0);
        umask(mask);
        mask
    };
    Ok(Request {
        program: std::fs::read_link("/proc/self/exe")?.into_os_string().into_vec(),
        args,
        env,
        dir: std::env::current_dir()?.into_os_string().into_vec(),
        umask: mask,
    })
}

/// Becomes the real tool. Gives the reason if it cannot.
fn replace(path: &[u8], argv: *const *const c_char) -> io::Result<io::Error> {
    let path = CString::new(path)?;
    // SAFETY: `argv` is the NULL-ended array that we were called with; on success execv does not return.
    unsafe {
        execv(path.as_ptr(), argv);
    }
    Ok(io::Error::last_os_error())
}

/// Runs the real tool as a child, so that its wait status can be reported.
fn run(path: &[u8], argv: *const *const c_char, socket: &mut UnixStream) -> io::Result<c_int> {
    let path = CString::new(path)?;
    // SAFETY: one thread, so the child may do anything after fork; `argv` is the NULL-ended array that we were called with.
    let child = unsafe { fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        let mut argv = argv;
        let renamed;
        if let Some(links) = links() {
            leave_links(&links);
            // SAFETY: `argv` is NULL-ended and holds at least the name that we were called by.
            renamed = unsafe { under_own_name(argv, &path, &links) };
            argv = renamed.as_ptr();
        }
        // SAFETY: as above; on success execv does not return.
        unsafe {
            execv(path.as_ptr(), argv);
            let error = io::Error::last_os_error();
            let _ = writeln!(io::stderr(), "ggr: {}: {error}", path.to_string_lossy());
            _exit(126);
        }
    }
    let mut status: c_int = 0;
    loop {
        // SAFETY: `status` is a valid place for the result.
        if unsafe { waitpid(child, &raw mut status, 0) } == child {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // Reporting is a courtesy: a coordinator that is gone does not change what the tool did.
    let _ = socket.write_all(&status.to_le_bytes());
    let mut acknowledged = [0u8; 1];
    let _ = socket.read(&mut acknowledged);
    Ok(if status & 0x7f == 0 { (status >> 8) & 0xff } else { end_by(status & 0x7f) })
}

/// The arguments, with the tool's own path in place of its link's: a name without a directory stays as it is.
///
/// # Safety
/// `argv` is a NULL-ended array of strings with at least one.
unsafe fn under_own_name(argv: *const *const c_char, path: &CString, links: &[u8]) -> Vec<*const c_char> {
    let mut all = Vec::new();
    for i in 0.. {
        // SAFETY: the array goes on up to its NULL.
        let arg = unsafe { *argv.add(i) };
        all.push(arg);
        if arg.is_null() {
            break;
        }
    }
    // SAFETY: there is a first string.
    let name = unsafe { std::ffi::CStr::from_ptr(all[0]) }.to_bytes();
    if name.starts_with(links) {
        all[0] = path.as_ptr();
    }
    all
}

/// Ends this process by a signal, as the tool was ended; for a signal that does not kill, as the shell reports it.
fn end_by(number: c_int) -> c_int {
    // SAFETY: restoring the default action and raising a signal touch no memory.
    unsafe {
        signal(number, SIG_DFL);
        raise(number);
    }
    128 + number
}
