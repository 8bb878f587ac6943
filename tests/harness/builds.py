"""Builds of one program, each from a clean copy of its source at the same absolute path: debug info names it."""

import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import typing
from dataclasses import dataclass

from harness import trees
from harness.recipes import Recipe

LIMIT_SECONDS = 1800


@dataclass
class Build:
    """One finished build, its tree moved aside."""

    label: str
    tree: pathlib.Path
    manifest: trees.Manifest
    # Of `configure` and `build`, in order; the second is missing when the first failed.
    exits: list[int]
    # Of the same steps, wall time.
    seconds: list[float]
    # Sorted lines of standard output and error: their order depends on -j, their number does not.
    messages: list[str]
    # What the build system says is left to do.
    pending: str

    def times(self) -> str:
        """The wall times for a person."""
        return " + ".join(f"{seconds:.1f}" for seconds in self.seconds) + " s"


def ggr_from_environment() -> str:
    """The `ggr` to test: `$GGR`, an absolute path; ends the program if it is not there."""
    ggr = os.environ.get("GGR", "")
    if not os.path.isabs(ggr) or not os.access(ggr, os.X_OK):
        sys.exit("set GGR to the absolute path of the ggr program to test")
    return ggr


def clean_environment(extra: dict[str, str]) -> dict[str, str]:
    """The environment of every build: nothing of the caller's but where programs are, and how ggr cuts calls."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "GGR_STAGES") if name in os.environ}
    return kept | {"LC_ALL": "C", "TZ": "UTC"} | extra


def lock(work: pathlib.Path) -> typing.TextIO:
    """Keeps another run out of a work directory until the file is closed; ends the program if one is there already."""
    work.mkdir(parents=True, exist_ok=True)
    file = open(work / "lock", "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"another run works in {work}; set WORK to another directory")
    return file


def fresh_copy(recipe: Recipe, place: pathlib.Path) -> None:
    """A clean tree at `place`, with the source's times: Automake's rules go by them."""
    if not recipe.source().is_dir():
        sys.exit(f"{recipe.source()} is not there; run tests/corpus {recipe.project}")
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", recipe.source(), place], check=True)


def run(argv: list[str], place: pathlib.Path, env: dict[str, str], log: pathlib.Path) -> tuple[int, float]:
    """Runs one step with its output in `log`; its exit code (negative for a signal) and wall time in seconds."""
    with open(log, "ab") as file:
        start = time.monotonic()
        try:
            done = subprocess.run(
                argv, cwd=place, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=LIMIT_SECONDS
            )
            code = done.returncode
        except subprocess.TimeoutExpired:
            file.write(b"\n-- harness: time limit --\n")
            code = 124
        return code, time.monotonic() - start


def build(recipe: Recipe, work: pathlib.Path, label: str, flags: str, jobs: int, ggr: list[str]) -> Build:
    """Builds with every step behind `ggr` (nothing for plain) and moves the tree to `work/label`."""
    place, aside, log = work / "build", work / label, work / f"{label}.log"
    env = clean_environment(recipe.environment(flags) | {"GGR_DIR": str(work / "repository")})
    if not ggr:
        del env["GGR_DIR"]
    log.unlink(missing_ok=True)
    fresh_copy(recipe, place)
    os.umask(0o022)
    exits, seconds = [], []
    for step in ("configure", "build"):
        argv = recipe.command(step, flags, jobs)
        if argv is None or any(exits):
            continue
        code, took = run(ggr + argv, place, env, log)
        exits.append(code)
        seconds.append(took)
    manifest = trees.manifest(place)
    pending = pending_work(recipe, place, flags, jobs, env)
    shutil.rmtree(aside, ignore_errors=True)
    place.rename(aside)
    return Build(label, aside, manifest, exits, seconds, messages(log), pending)


def pending_work(recipe: Recipe, place: pathlib.Path, flags: str, jobs: int, env: dict[str, str]) -> str:
    """What plain make or ninja would still do in the tree as it stands."""
    argv = recipe.command("pending", flags, jobs)
    done = subprocess.run(argv, cwd=place, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return f"{done.stdout}exit {done.returncode}\n"


def messages(log: pathlib.Path) -> list[str]:
    """The lines of a log without ggr's own, and without Ninja's counter, whose order depends on -j."""
    lines = log.read_text(errors="replace").splitlines()
    return sorted(re.sub(r"^\[\d+/\d+\] ", "", line) for line in lines if not line.startswith("ggr:"))
