//! Compiles the relocation layer by itself: no libc, static, linked where its filter expects it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=relocate");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("relocate");
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let linker =
        "-nostartfiles -nostdlib -static -no-pie -Wl,--image-base=0x555500000000 -Wl,--build-id=none";
    let status = Command::new(rustc)
        .args(["--edition=2024", "--crate-type=bin", "--crate-name=relocate", "-Copt-level=s"])
        .args([
            "-Cpanic=abort",
            "-Clto=fat",
            "-Ccodegen-units=1",
            "-Cstrip=symbols",
            "-Crelocation-model=pic",
        ])
        .arg(format!("-Clink-args={linker}"))
        .arg("-o")
        .arg(&out)
        .arg("relocate/main.rs")
        .status()
        .expect("rustc can be started");
    assert!(status.success(), "the relocation layer does not compile");
    // The filter lets calls through that come from the first 64 KiB (`relocate/filter.rs`).
    let size = std::fs::metadata(&out).expect("it was just made").len();
    assert!(size < 48 << 10, "the relocation layer has grown to {size} bytes");
    println!("cargo::rustc-env=GGR_RELOCATE={}", out.display());
}
