//! What this process was told.

/// Set once, from the arguments. Each text is followed by a NUL in memory.
pub struct Config {
    /// Our own file, to be executed in place of whatever the program executes.
    pub own_file: &'static [u8],
    /// The root's directory, absolute, without a slash at the end.
    pub root: &'static [u8],
    /// The program's file as the program itself knows it, absolute.
    pub program: &'static [u8],
}
