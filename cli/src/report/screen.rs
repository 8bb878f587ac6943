//! The terminal's last line, shared by the build's output and the status line.
//!
//! Everything that goes to the terminal during a build goes through one [`Screen`], so that the status line is erased
//! before other bytes and drawn again after them. **Invariant:** it is drawn only when the last byte of the other output
//! was a newline: a prompt or an unfinished `checking for gcc...` keeps its line.

use std::io::Write;

/// Erases the line that the cursor is in and goes to its start.
const ERASE: &[u8] = b"\r\x1b[2K";

/// Characters wider than one column would wrap a line that is cut by counting; so wrapping is off while it is drawn.
const NO_WRAP: &[u8] = b"\x1b[?7l";
const WRAP: &[u8] = b"\x1b[?7h";

/// A terminal with a status line at the bottom of what was written.
pub(crate) struct Screen<W> {
    out: W,
    status: String,
    drawn: bool,
    mid_line: bool,
}

impl<W: Write> Screen<W> {
    /// A screen whose cursor is at the start of a line.
    pub(crate) fn new(out: W) -> Self {
        Self { out, status: String::new(), drawn: false, mid_line: false }
    }

    /// Writes output of the build, in one call with what the status line needs.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        let mut frame = Vec::with_capacity(bytes.len() + 2 * self.status.len() + 32);
        if self.drawn {
            frame.extend_from_slice(ERASE);
            self.drawn = false;
        }
        frame.extend_from_slice(bytes);
        self.mid_line = *last != b'\n';
        self.draw_into(&mut frame);
        self.send(&frame);
    }

    /// Replaces the status line; an empty one is erased.
    pub(crate) fn set_status(&mut self, status: &str, width: usize) {
        let status: String = status.chars().take(width).collect();
        if status == self.status && self.drawn {
            return;
        }
        self.status = status;
        let mut frame = Vec::new();
        if self.drawn {
            frame.extend_from_slice(ERASE);
            self.drawn = false;
        }
        self.draw_into(&mut frame);
        self.send(&frame);
    }

    fn draw_into(&mut self, frame: &mut Vec<u8>) {
        if self.mid_line || self.status.is_empty() {
            return;
        }
        frame.extend_from_slice(NO_WRAP);
        frame.extend_from_slice(self.status.as_bytes());
        frame.extend_from_slice(WRAP);
        self.drawn = true;
    }

    /// A terminal that went away is noticed by the build itself; ggr has nobody to tell.
    fn send(&mut self, frame: &[u8]) {
        if !frame.is_empty() {
            let _ = self.out.write_all(frame).and_then(|()| self.out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(steps: impl FnOnce(&mut Screen<Vec<u8>>), expected: &str) {
        let mut screen = Screen::new(Vec::new());
        steps(&mut screen);
        let text = String::from_utf8(screen.out).unwrap();
        let text = text.replace("\r\x1b[2K", "<erase>").replace("\x1b[?7l", "[").replace("\x1b[?7h", "]");
        assert_eq!(text, expected);
    }

    #[test]
    fn the_status_is_erased_before_output_and_drawn_after_it() {
        check(
            |screen| {
                screen.set_status("1 of 2", 80);
                screen.write(b"gcc a.c\n");
                screen.set_status("2 of 2", 80);
                screen.set_status("", 80);
            },
            "[1 of 2]<erase>gcc a.c\n[1 of 2]<erase>[2 of 2]<erase>",
        );
    }

    #[test]
    fn an_unfinished_line_is_left_alone() {
        check(
            |screen| {
                screen.set_status("s", 80);
                screen.write(b"checking for gcc... ");
                screen.set_status("t", 80);
                screen.write(b"gcc\n");
            },
            "[s]<erase>checking for gcc... gcc\n[t]",
        );
    }

    #[test]
    fn the_status_is_cut_to_the_width() {
        check(|screen| screen.set_status("abcdef", 3), "[abc]");
    }

    #[test]
    fn output_alone_passes_unchanged() {
        check(|screen| screen.write(b"\x1b[1mbold\x1b[0m no newline"), "\x1b[1mbold\x1b[0m no newline");
    }
}
