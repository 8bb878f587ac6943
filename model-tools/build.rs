//! Compiles the preprocess stage's program by itself, static and small, so that the library can carry it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "src/bin/preprocess.rs";
    println!("cargo::rerun-if-changed={source}");
    println!("cargo::rerun-if-changed=src/directives.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("preprocess");
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let status = Command::new(rustc)
        .args([
            "--edition=2024",
            "--crate-type=bin",
            "--crate-name=preprocess",
            "-Copt-level=3",
            "-Cpanic=abort",
        ])
        .args(["-Clto=fat", "-Ccodegen-units=1", "-Cstrip=symbols", "-Ctarget-feature=+crt-static"])
        .args(["-Crelocation-model=static"])
        .arg("-o")
        .arg(&out)
        .arg(source)
        .status()
        .expect("rustc can be started");
    assert!(status.success(), "the preprocess stage's program does not compile");
    println!("cargo::rustc-env=GGR_PREPROCESS={}", out.display());
}
