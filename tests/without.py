"""Runs a program as in a container whose filter refuses system calls.

    python without.py CALLS PROGRAM …

CALLS are names joined by commas. The filter is the kernel's own (seccomp), needs no privilege, and
holds for all that the program starts.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

_NUMBERS = {
    "x86_64": {"inotify_init1": 294, "prctl": 157, "pidfd_send_signal": 424, "pidfd_open": 434},
    "aarch64": {"inotify_init1": 26, "prctl": 167, "pidfd_send_signal": 424, "pidfd_open": 434},
}
_ERRORS = {"inotify_init1": errno.EMFILE, "prctl": errno.EPERM}
_FIRST_ARGUMENT = {"prctl": 36}  # PR_SET_CHILD_SUBREAPER; all others pass
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARGUMENT = 0, 16  # where they lie in struct seccomp_data
_SET_SECCOMP, _FILTER, _NO_NEW_PRIVS = 22, 2, 38


def program(calls: list[str]) -> bytes:
    """Return the filter as BPF: for each call, compare and refuse."""
    numbers = _NUMBERS[platform.machine()]
    code = []
    for call in calls:
        refuse = (_RETURN, 0, 0, _ERRNO | _ERRORS.get(call, errno.ENOSYS))
        wanted = _FIRST_ARGUMENT.get(call)
        code.append((_LOAD, 0, 0, _NUMBER))
        code.append((_EQUAL, 0, 1 if wanted is None else 3, numbers[call]))
        if wanted is not None:
            code += [(_LOAD, 0, 0, _ARGUMENT), (_EQUAL, 0, 1, wanted)]
        code.append(refuse)
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *each) for each in code)


def refuse(calls: list[str]) -> None:
    """Put the filter on this process."""
    code = program(calls)
    buffer = ctypes.create_string_buffer(code, len(code))
    filters = struct.pack("HP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_NO_NEW_PRIVS, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, filters, 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "no filter is allowed here")


if __name__ == "__main__":
    refuse(sys.argv[1].split(","))
    os.execvp(sys.argv[2], sys.argv[2:])
