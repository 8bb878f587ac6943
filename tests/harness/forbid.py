#!/usr/bin/python3
"""Runs a command on a machine that allows no namespaces and no mounts, or none of seccomp(2) either.

Usage: forbid.py [--seccomp] COMMAND...

A filter (prctl, so that `--seccomp` may forbid the system call itself) refuses unshare, setns, mount and their like with
EPERM, clone with a flag for a namespace too, and clone3, whose flags a filter cannot see, with ENOSYS. If this is root, the
command runs as the user 65534: root could undo much.
"""

import ctypes
import os
import struct
import sys

EPERM, ENOSYS = 1, 38
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LD, JEQ, JSET, RET = 0x20, 0x15, 0x45, 0x06
# CLONE_NEWNS and the six others of linux/sched.h, CLONE_NEWTIME (in clone3 and unshare only) left out.
NEW = 0x7E020000
CLONE, CLONE3, SECCOMP = 56, 435, 317
# unshare, setns, mount, umount2, pivot_root, chroot, open_tree, move_mount, fsopen, fsmount, mount_setattr
REFUSED = [272, 308, 165, 166, 155, 161, 428, 429, 430, 432, 442]
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2


def program(seccomp):
    code = [(LD, 0, 0, 0)]
    for number in REFUSED + ([SECCOMP] if seccomp else []):
        code += [(JEQ, 0, 1, number), (RET, 0, 0, ERRNO | EPERM)]
    code += [(JEQ, 0, 1, CLONE3), (RET, 0, 0, ERRNO | ENOSYS)]
    code += [(JEQ, 0, 3, CLONE), (LD, 0, 0, 16), (JSET, 0, 1, NEW), (RET, 0, 0, ERRNO | EPERM)]
    code += [(RET, 0, 0, ALLOW)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code), len(code)


def main():
    args = sys.argv[1:]
    seccomp = args[0] == "--seccomp"
    command = args[1:] if seccomp else args
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    libc = ctypes.CDLL(None, use_errno=True)
    code, count = program(seccomp)
    code = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", count, ctypes.addressof(code)))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, FILTER, header, 0, 0):
        sys.exit(f"forbid.py: prctl: {os.strerror(ctypes.get_errno())}")
    os.execvp(command[0], command)


main()
