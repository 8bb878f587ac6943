//! The models of a session, and which files of this machine they stand for.

use std::borrow::Cow;
use std::path::Path;

/// Endings of versions and flavours that a tool's file name may have after its name: `gcc-12`, `clang-14`, `g++-13.2`.
fn without_version(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((start, version))
            if !start.is_empty()
                && version.starts_with(|c: char| c.is_ascii_digit())
                && version.chars().all(|c| c.is_ascii_digit() || c == '.') =>
        {
            start
        }
        _ => name,
    }
}

/// What a tool's file is called when triplet and version are taken off: `gcc` for `/usr/bin/x86_64-linux-gnu-gcc-12`.
pub fn tool_name(program: &Path) -> Cow<'_, str> {
    let name = program.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(normal(name)),
        Cow::Owned(name) => Cow::Owned(normal(&name).to_owned()),
    }
}

fn normal(name: &str) -> &str {
    let name = without_version(name);
    // A triplet has three or four parts, the first of which names a processor.
    let known = KNOWN.iter().filter(|tool| name.len() > tool.len() && name.ends_with(*tool));
    let longest = known.max_by_key(|tool| tool.len());
    match longest {
        Some(tool) => {
            let triplet = &name[..name.len() - tool.len()];
            let parts = triplet.strip_suffix('-').map_or(0, |triplet| triplet.split('-').count());
            if (2..=4).contains(&parts) { &name[name.len() - tool.len()..] } else { name }
        }
        None => name,
    }
}

/// The names that are looked for behind a triplet.
const KNOWN: &[&str] = &[
    "ar",
    "as",
    "c++",
    "cc",
    "clang",
    "clang++",
    "cpp",
    "g++",
    "gcc",
    "gcc-ar",
    "gcc-nm",
    "gcc-ranlib",
    "gold",
    "ld",
    "ld.bfd",
    "ld.gold",
    "ld.lld",
    "nm",
    "objcopy",
    "objdump",
    "ranlib",
    "readelf",
    "size",
    "strip",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triplets_and_versions_are_taken_off() {
        let check = |name: &str, expected: &str| {
            assert_eq!(tool_name(Path::new(&format!("/usr/bin/{name}"))), expected, "{name}");
        };
        check("gcc", "gcc");
        check("gcc-12", "gcc");
        check("x86_64-linux-gnu-gcc-12", "gcc");
        check("x86_64-pc-linux-gnu-gcc-ar-13.2.0", "gcc-ar");
        check("x86_64-linux-gnu-ld.bfd", "ld.bfd");
        check("arm-none-eabi-objcopy", "objcopy");
        check("x86_64-linux-gnu-g++-12", "g++");
        check("clang++-14", "clang++");
        check("gcc-ranlib", "gcc-ranlib");
        check("my-gcc", "my-gcc");
        check("llvm-ar-14", "llvm-ar");
        check("protoc", "protoc");
        check("-12", "-12");
    }
}
