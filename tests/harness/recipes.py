"""The corpus: which programs there are, where their sources lie, and the commands that build them."""

import os
import pathlib
import shlex
import sys
import tomllib
from dataclasses import dataclass, field, replace

TESTS = pathlib.Path(__file__).resolve().parent.parent

PLAIN_FLAGS = "-O2 -g"
# Without a fixed seed gcc names LTO sections at random, and no two builds are equal.
LTO_FLAGS = "-O2 -g -flto -frandom-seed=ggr"


@dataclass(frozen=True)
class Recipe:
    """One program of the corpus."""

    project: str
    package: str
    tarball: str
    # Nothing where only the sources are of use.
    build: str | None = None
    pending: str | None = None
    configure: str | None = None
    launcher: str | None = None
    env: dict[str, str] = field(default_factory=dict)

    def source(self) -> pathlib.Path:
        """Where `tests/corpus` has unpacked it."""
        return corpus_dir() / self.project

    def command(self, step: str, flags: str, jobs: int) -> list[str] | None:
        """The arguments of `configure`, `build` or `pending`; nothing if there is no such step."""
        text = getattr(self, step)
        return None if text is None else shlex.split(text.format(cflags=flags, jobs=jobs))

    def launched(self, launcher: str) -> list[str]:
        """The arguments that make the build call `launcher` before its compiler."""
        if self.launcher is None:
            sys.exit(f"{self.project}: its recipe has no `launcher`, so ccache and sccache cannot be compared")
        return shlex.split(self.launcher.format(launcher=launcher))

    def compiled_by(self, compiler: str) -> "Recipe":
        """The same, with this C compiler: `configure` goes by the variable, make by what it finds in its flags."""
        return replace(self, env=self.env | {"CC": compiler, "MAKEFLAGS": f"CC={compiler}"})

    def environment(self, flags: str) -> dict[str, str]:
        """The variables that the build needs."""
        return {name: value.format(cflags=flags) for name, value in self.env.items()}


def corpus_dir() -> pathlib.Path:
    """`$CORPUS`, or a directory in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(os.environ.get("CORPUS") or f"{cache}/ggr-corpus")


def load() -> dict[str, Recipe]:
    """All recipes, by project."""
    with open(TESTS / "recipes.toml", "rb") as file:
        return {project: Recipe(project=project, **row) for project, row in tomllib.load(file).items()}


def select(names: list[str], *, sources: bool = False) -> list[Recipe]:
    """The programs with these names, all for none; ends the program for a name that is not there.

    With `sources`, also what is not built, if it is named.
    """
    programs = {project: recipe for project, recipe in load().items() if recipe.build}
    recipes = load() if sources else programs
    unknown = [name for name in names if name not in recipes]
    if unknown:
        sys.exit(f"no such project: {' '.join(unknown)} (there are: {' '.join(recipes)})")
    return [recipes[name] for name in names or programs]


def checksums() -> dict[str, str]:
    """The pinned SHA-256 of each tarball."""
    lines = (TESTS / "corpus.sha256").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}
