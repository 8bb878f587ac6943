//! Compiles the launcher by itself, static and small, so that the `ggr` binary can carry it.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = PathBuf::from("../model-tools/src/bin/launcher.rs");
    println!("cargo::rerun-if-changed={}", source.display());
    println!("cargo::rerun-if-changed=../ir/src/protocol/launcher.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("launcher");
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let status = Command::new(rustc)
        .args([
            "--edition=2024",
            "--crate-type=bin",
            "--crate-name=launcher",
            "-Copt-level=s",
            "-Cpanic=abort",
        ])
        .args(["-Clto=fat", "-Ccodegen-units=1", "-Cstrip=symbols", "-Ctarget-feature=+crt-static"])
        .args(["-Crelocation-model=static"])
        .arg("-o")
        .arg(&out)
        .arg(&source)
        .status()
        .expect("rustc can be started");
    assert!(status.success(), "the launcher does not compile");
    println!("cargo::rustc-env=LAUNCHER_OF_GGR={}", out.display());
}
