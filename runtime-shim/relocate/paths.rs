//! Where a path of the program stands below the root, and back. Pure: tested on the host.

/// The longest path that the kernel takes, NUL included.
pub const PATH_MAX: usize = 4096;

/// What is the machine's and not the root's: `/proc`, and devices that every program may expect.
const HOST: [&[u8]; 10] = [
    b"/proc",
    b"/dev/null",
    b"/dev/zero",
    b"/dev/full",
    b"/dev/random",
    b"/dev/urandom",
    b"/dev/fd",
    b"/dev/stdin",
    b"/dev/stdout",
    b"/dev/stderr",
];

/// A path being made, with its NUL.
pub struct Buffer {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl Buffer {
    /// An empty one.
    pub fn new() -> Self {
        Self { bytes: [0; PATH_MAX], length: 0 }
    }

    /// What it holds, without the NUL.
    pub fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The address of its text, NUL-terminated.
    pub fn address(&self) -> u64 {
        self.bytes.as_ptr() as u64
    }

    /// The room for the kernel to write into; [`set_length`](Self::set_length) says how much it wrote.
    pub fn room(&mut self) -> u64 {
        self.bytes.as_mut_ptr() as u64
    }

    /// Says how many bytes hold text.
    pub fn set_length(&mut self, length: usize) {
        self.length = length.min(PATH_MAX - 1);
        self.bytes[self.length] = 0;
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let end = self.length + bytes.len();
        if end >= PATH_MAX {
            return Err(TooLong);
        }
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.bytes[end] = 0;
        self.length = end;
        Ok(())
    }
}

/// The path does not fit into [`PATH_MAX`].
#[derive(Debug)]
pub struct TooLong;

/// Whether `path` is `dir` or lies below it, by text.
pub fn below(path: &[u8], dir: &[u8]) -> bool {
    path.starts_with(dir) && matches!(path.get(dir.len()), None | Some(b'/'))
}

/// Whether an absolute path is the machine's own.
pub fn is_host(path: &[u8]) -> bool {
    HOST.iter().any(|own| below(path, own))
}

/// How many `..` of a path climb above where it starts, by text.
pub fn climbs(path: &[u8]) -> usize {
    let (mut depth, mut lowest) = (0i64, 0i64);
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => depth -= 1,
            _ => depth += 1,
        }
        lowest = lowest.min(depth);
    }
    (-lowest) as usize
}

/// How many directories deep an absolute path is.
pub fn depth(path: &[u8]) -> usize {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).count()
}

/// Writes the place of an absolute path below `root`. A `..` that would climb above the root is left out, as the kernel
/// does at `/`.
///
/// # Errors
/// If it does not fit.
pub fn place(root: &[u8], path: &[u8], to: &mut Buffer) -> Result<(), TooLong> {
    to.push(root)?;
    if climbs(path) == 0 {
        return to.push(path);
    }
    let mut depth = 0i64;
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." if depth == 0 => continue,
            b".." => depth -= 1,
            _ => depth += 1,
        }
        to.push(b"/")?;
        to.push(part)?;
    }
    Ok(())
}

/// A path of the machine as the program knows it.
pub fn shown<'a>(root: &[u8], path: &'a [u8]) -> &'a [u8] {
    if !below(path, root) {
        return path;
    }
    match &path[root.len()..] {
        b"" => b"/",
        rest => rest,
    }
}

/// Whether an absolute path names the program's own file: `/proc/self/exe`, also by pid or thread.
pub fn is_own_program(path: &[u8], pid: u64) -> bool {
    own_process(path, pid).is_some_and(|rest| rest == b"exe")
}

/// What an absolute path that begins with `/proc/self/root` names in the root.
pub fn below_own_root(path: &[u8], pid: u64) -> Option<&[u8]> {
    own_process(path, pid).filter(|rest| below(rest, b"root")).map(|rest| &rest[4..])
}

/// The part after `/proc/self/` (or `/proc/PID/`, `/proc/thread-self/`).
fn own_process(path: &[u8], pid: u64) -> Option<&[u8]> {
    let rest = path.strip_prefix(b"/proc/")?;
    let end = rest.iter().position(|&byte| byte == b'/')?;
    let (who, rest) = (&rest[..end], &rest[end + 1..]);
    let number = |text: &[u8]| {
        text.iter().try_fold(0u64, |sum, byte| match byte {
            b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
            _ => None,
        })
    };
    (who == b"self" || who == b"thread-self" || number(who) == Some(pid)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(path: &str) -> String {
        let mut buffer = Buffer::new();
        place(b"/tmp/r", path.as_bytes(), &mut buffer).unwrap();
        String::from_utf8(buffer.text().to_vec()).unwrap()
    }

    #[test]
    fn an_absolute_path_stands_below_the_root_and_never_above() {
        assert_eq!(placed("/"), "/tmp/r/");
        assert_eq!(placed("/usr//include/../lib"), "/tmp/r/usr//include/../lib");
        assert_eq!(placed("/../etc/passwd"), "/tmp/r/etc/passwd");
        assert_eq!(placed("/a/../../b/./c"), "/tmp/r/a/../b/c");
        assert_eq!(placed("/.."), "/tmp/r");
    }

    #[test]
    fn a_path_that_is_too_long_with_its_root_is_refused() {
        let mut buffer = Buffer::new();
        assert!(place(b"/tmp/r", &[b'a'; PATH_MAX - 7], &mut buffer).is_ok());
        assert!(place(b"/tmp/r", &[b'a'; PATH_MAX - 6], &mut Buffer::new()).is_err());
    }

    #[test]
    fn climbing_is_counted_from_the_lowest_point() {
        let check = |path: &str, expected| assert_eq!(climbs(path.as_bytes()), expected, "{path}");
        check("a/b/../..", 0);
        check("../x", 1);
        check("a/../../../b", 2);
        check("./.././..", 2);
    }

    #[test]
    fn the_program_is_shown_its_own_paths() {
        let check = |path: &str, expected: &str| {
            assert_eq!(shown(b"/tmp/r", path.as_bytes()), expected.as_bytes(), "{path}");
        };
        check("/tmp/r", "/");
        check("/tmp/r/usr", "/usr");
        check("/tmp/rx", "/tmp/rx");
        check("pipe:[1]", "pipe:[1]");
    }

    #[test]
    fn only_proc_and_a_few_devices_are_the_machines() {
        let check = |path: &str, expected| assert_eq!(is_host(path.as_bytes()), expected, "{path}");
        check("/proc", true);
        check("/proc/self/maps", true);
        check("/process", false);
        check("/dev/null", true);
        check("/dev/fd/3", true);
        check("/dev/sda", false);
        check("/etc/passwd", false);
    }

    #[test]
    fn a_process_is_known_by_each_of_its_names() {
        assert!(is_own_program(b"/proc/self/exe", 7));
        assert!(is_own_program(b"/proc/7/exe", 7));
        assert!(!is_own_program(b"/proc/8/exe", 7));
        assert!(!is_own_program(b"/proc/self/exec", 7));
        assert_eq!(below_own_root(b"/proc/self/root/etc", 7), Some(&b"/etc"[..]));
        assert_eq!(below_own_root(b"/proc/self/roots", 7), None);
    }
}
