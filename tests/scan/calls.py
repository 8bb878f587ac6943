"""Turns what record.c wrote into lines for the scan_check example: calls.py LOG > CALLS."""

import json
import sys

seen = set()
for record in open(sys.argv[1], "rb").read().split(b"\0\n"):
    parts = [part.decode("utf8", "replace") for part in record.split(b"\0")]
    if len(parts) < 3 or any("conftest" in part for part in parts):
        continue
    text = " ".join(parts[1:])
    if not any(flag in parts for flag in ("-c", "-S", "-E")) and ".c" not in text:
        continue
    # `--param name=value` is two words; the example's small parser takes one.
    args = []
    for part in parts[1:]:
        if args and args[-1] == "--param":
            args[-1] = "--param=" + part
        else:
            args.append(part)
    line = json.dumps({"dir": parts[0], "args": args})
    if line not in seen:
        seen.add(line)
        print(line)
