"""A file system that never answers: who opens a file in it waits in the kernel, and KILL waits too.

As a dead network disk does. Made with FUSE, whose server we are; to mount it takes root.
"""

import contextlib
import ctypes
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

FUSE = "/dev/fuse"
INIT = 26
MNT_DETACH = 2
_REQUEST = struct.Struct("=IIQ")  # length, what is asked, its number; the rest does not matter
_REPLY = struct.Struct("=IiQ")  # length, error, the number of the request
_WELCOME = struct.Struct("=IIIIHHI40x")  # version 7.31, and the least of everything


def can_be_made() -> bool:
    """Tell whether this user, on this machine, may mount one."""
    try:
        with contextlib.ExitStack() as stack:
            descriptor = os.open(FUSE, os.O_RDWR)
            stack.callback(os.close, descriptor)
            return os.geteuid() == 0 and _has_admin()
    except OSError:
        return False


def _has_admin() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    [effective] = [line.split()[1] for line in lines if line.startswith("CapEff:")]
    return bool(int(effective, 16) & 1 << 21)  # CAP_SYS_ADMIN


@contextlib.contextmanager
def hung_file_system(place: Path) -> Iterator[None]:
    """Mount one at the folder; who waits in it is let go at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(FUSE, os.O_RDWR)
    options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"hung", os.fsencode(place), b"fuse", 0, options) != 0:
        os.close(descriptor)
        raise OSError(ctypes.get_errno(), "mount")
    server = threading.Thread(target=_read_and_say_nothing, args=(descriptor,), daemon=True)
    server.start()
    try:
        yield
    finally:
        libc.umount2(os.fsencode(place), 1)  # MNT_FORCE: every request in it fails
        libc.umount2(os.fsencode(place), MNT_DETACH)
        server.join(10)
        os.close(descriptor)


def _read_and_say_nothing(descriptor: int) -> None:
    while True:
        try:
            request = os.read(descriptor, 1 << 20)
        except OSError:  # unmounted
            return
        _, asked, number = _REQUEST.unpack_from(request)
        if asked == INIT:
            welcome = _WELCOME.pack(7, 31, 0, 0, 1, 1, 1 << 16)
            head = _REPLY.pack(_REPLY.size + len(welcome), 0, number)
            os.write(descriptor, head + welcome)
