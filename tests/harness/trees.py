"""What is in a tree, and where two trees differ: names, kinds, modes, bytes. Times are left out."""

import hashlib
import os
import pathlib
import stat

# ggr's own repository; never a part of what the build made.
REPOSITORY = ".ggr"
PLACEHOLDER = b"#!ggr-placeholder"

# An entry says all that is compared: `file 0644 SHA-256`, `symlink TARGET`, `directory 0755`.
Manifest = dict[str, str]


def manifest(root: pathlib.Path) -> Manifest:
    """Every entry below `root`."""
    found: Manifest = {}
    for directory, names, files in os.walk(root):
        if pathlib.Path(directory) == root and REPOSITORY in names:
            names.remove(REPOSITORY)
        for name in names + files:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, root)] = describe(path)
    return found


def describe(path: str) -> str:
    """One entry, as text that is equal exactly if the entries are."""
    status = os.lstat(path)
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    if stat.S_ISLNK(status.st_mode):
        return f"symlink {os.readlink(path)}"
    if stat.S_ISDIR(status.st_mode):
        return f"directory {mode}"
    if not stat.S_ISREG(status.st_mode):
        return f"special {status.st_mode:o}"
    with open(path, "rb") as file:
        head = file.read(len(PLACEHOLDER))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    note = " placeholder" if head == PLACEHOLDER else ""
    return f"file {mode} {digest}{note}"


def differing(first: Manifest, second: Manifest) -> set[str]:
    """The names that are not the same in both."""
    return {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}


def explain(name: str, expected: Manifest, got: Manifest, expected_root: pathlib.Path, got_root: pathlib.Path) -> str:
    """One line about one difference: what is missing, which mode, or the first byte that differs."""
    if name not in got:
        return f"{name}: missing"
    if name not in expected:
        return f"{name}: should not be there ({got[name]})"
    if got[name].endswith(" placeholder"):
        return f"{name}: is still a placeholder"
    one, two = expected[name].split(), got[name].split()
    if one[0] != "file" or two[0] != "file":
        return f"{name}: {got[name]} instead of {expected[name]}"
    notes = [f"mode {two[1]} instead of {one[1]}"] if one[1] != two[1] else []
    if one[2] != two[2]:
        notes.append(first_difference(expected_root / name, got_root / name))
    return f"{name}: {', '.join(notes)}"


def first_difference(expected: pathlib.Path, got: pathlib.Path) -> str:
    """Where the bytes of two files part."""
    one, two = expected.read_bytes(), got.read_bytes()
    at = next((at for at, (a, b) in enumerate(zip(one, two)) if a != b), min(len(one), len(two)))
    return f"{len(two)} bytes instead of {len(one)}, first difference at {at}"
