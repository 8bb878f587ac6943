#!/usr/bin/env -S python3 -B
"""Runs a command and says which processes it left behind: `reap.py PID-FILE LEFT-FILE COMMAND...`.

Every orphan of the command becomes this process's child, so none escapes by forking away. The command's process id, which is
also its process group's, is written to PID-FILE at once. When the command has ended, its descendants get a few seconds to end
too; those that are still there are listed in LEFT-FILE, a line each, and killed. Exits as a shell says how the command ended.
"""

import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
PATIENCE_SECONDS = 10


def descendants() -> list[int]:
    """Every process below this one that has not ended."""
    children: dict[int, list[int]] = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state not in "ZX":
            children.setdefault(int(parent), []).append(int(stat.parent.name))
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def named(process: int) -> str:
    """A process for a person."""
    try:
        words = pathlib.Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"{process}"
    return f"{process} {b' '.join(words).decode(errors='replace')}"


def main() -> int:
    """Runs, waits, reports."""
    pid_file, left_file, *command = sys.argv[1:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(command, start_new_session=True)
    pathlib.Path(pid_file + ".new").write_text(str(child.pid))
    os.rename(pid_file + ".new", pid_file)
    status = child.wait()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (left := descendants()) and time.monotonic() < deadline:
        time.sleep(0.02)
    pathlib.Path(left_file).write_text("".join(f"{named(process)}\n" for process in left))
    for process in left:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
