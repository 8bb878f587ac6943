//! Builds whose thunks run in guests of microVMs. Where there is no QEMU or no guest kernel, said by name and left out.

use std::process::Command;

use crate::twin::{Twin, ggr, skipped};

#[test]
fn a_build_in_guests_gives_the_bytes_of_a_plain_one() {
    let tried = Command::new(ggr()).args(["worker", "image", "build"]).output().unwrap();
    if !tried.status.success() {
        return skipped(
            "a_build_in_guests_gives_the_bytes_of_a_plain_one",
            &String::from_utf8_lossy(&tried.stderr),
        );
    }
    let makefile = "\
.RECIPEPREFIX = >
prog: main.o libutil.a
> $(CC) $^ -o $@
libutil.a: util.o
> ar rcs $@ $^
main.o util.o: util.h
";
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or(format!("{home}/.cache"));
    Twin::new()
        .variable("XDG_CACHE_HOME", &cache)
        .variable("GGR_BACKEND", "microvm")
        .file("util.h", "int util(int);\n")
        .file("util.c", "#include \"util.h\"\nint util(int x) { return x - 1; }\n")
        .file(
            "main.c",
            "#include <stdio.h>\n#include \"util.h\"\nint main(void) { puts(\"guest\"); return util(1); }\n",
        )
        .file("Makefile", makefile)
        .build("make -j2")
        .plain("make -q && ./prog")
        .same();
}
