"""Signals that reach the intended process, or none.

A pid is only a number: between judging a process and signalling it, the pid may be reused. A
pidfd holds on to one process, so it is opened first, and only then is the start time compared;
after that no reuse can redirect the signal.

Where the kernel, or a filter around us, gives no pidfd, a descriptor of the folder /proc/<pid>
takes its place. It holds on to the process too, but it cannot be waited for, only looked at; and a
signal goes by number, right after such a look.
"""

import contextlib
import errno
import fcntl
import os
import select
import signal
import stat
import struct
import time
from collections.abc import Iterator

from autopoll.errors import AutopollError
from autopoll.process.proc_stat import read_stat

_TO_GROUP = 1 << 2  # PIDFD_SIGNAL_PROCESS_GROUP, since Linux 6.9
_INFO = struct.Struct("=QQ11Ii")  # struct pidfd_info: mask, cgroup, pids and uids, exit_code
_INFO_EXIT = 1 << 3
_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11  # _IOWR(0xFF, 11, struct pidfd_info)

# Each has a meaning of its own: USR1 shows stacks, USR2 has children reaped, and this one has a
# process become other code.
HAND_OVER = signal.SIGRTMIN
# What a person or supervisord sends. Without a handler each ends a process; held back, it waits.
HELD = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2, HAND_OVER,
)  # fmt: skip

CONTINUE_ONCE_IN_S = 60.0  # what is stopped again sooner is not continued a second time
_NO_PIDFD = {errno.ENOSYS, errno.EPERM, errno.EACCES}  # an old kernel; a filter, as of containers
_STEP_S = 0.02  # between two looks at a process that cannot be waited for


class NotPermitted(AutopollError):
    """The process belongs to another user."""


def hold_back() -> None:
    """Have what others send wait, also for the program that this process may become.

    Threads that are started meanwhile never get to see it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)


def let_in() -> None:
    """Take what has come meanwhile; there are handlers for it now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


def open_process(pid: int, started: int) -> int | None:
    """Return a pidfd (close-on-exec) of this very process, or its folder; None when it is gone."""
    try:
        descriptor = _hold(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        if error.errno != errno.EINVAL:  # a thread's number, not a process's, since Linux 6.9
            raise
        return None
    reading = read_stat(pid)
    if reading is None or reading.started != started:
        os.close(descriptor)
        return None
    return descriptor


def _hold(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno not in _NO_PIDFD:
            raise
    return os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def is_pidfd(descriptor: int) -> bool:
    """Return whether it can be waited for."""
    return not stat.S_ISDIR(os.fstat(descriptor).st_mode)


def is_ready(descriptor: int, timeout: float = 0.0) -> bool:
    """Return whether the pidfd's process has ended, all its threads included; wait for that."""
    if not is_pidfd(descriptor):
        deadline = time.monotonic() + timeout
        while not (gone := _has_ended(descriptor)) and time.monotonic() < deadline:
            time.sleep(_STEP_S)
        return gone
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _has_ended(folder: int) -> bool:
    """Return whether the process has ended; not so a leader whose other threads live."""
    try:
        file = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except (FileNotFoundError, ProcessLookupError):
        return True
    try:
        line = os.read(file, 4096)
    except ProcessLookupError:
        return True
    finally:
        os.close(file)
    fields = line[line.rindex(b")") + 2 :].split()
    return fields[0] in b"ZX" and int(fields[17]) <= 1


def exit_status(descriptor: int) -> int | None:
    """Return the exit code of the pidfd's process, minus the number of the signal that killed it.

    None before its parent has reaped it, and on kernels before Linux 6.15, which do not report it.
    """
    info = bytearray(_INFO.pack(_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(descriptor, _GET_INFO, info)
    except OSError:
        return None
    mask, *_, status = _INFO.unpack(info)
    return os.waitstatus_to_exitcode(status) if mask & _INFO_EXIT else None


def send(pid: int, started: int, number: signal.Signals) -> bool:
    """Signal one process; False, with nothing done, when it is gone, init, or ourselves.

    Raises NotPermitted.
    """
    if pid <= 1 or pid == os.getpid():
        return False
    with _held(pid, started) as descriptor:
        return descriptor is not None and _signal(descriptor, pid, number)


def send_group(pid: int, started: int, number: signal.Signals) -> bool:
    """Signal the group that this process leads, or the process alone when it leads none.

    False, with nothing done, when it is gone, init, or in our own group. Raises NotPermitted.
    """
    if pid <= 1 or pid in (os.getpid(), os.getpgrp()):
        return False
    with _held(pid, started) as descriptor:
        if descriptor is None:
            return False
        reading = read_stat(pid)
        leads = reading is not None and reading.group == pid
        return _signal(descriptor, pid, number, _TO_GROUP if leads else 0)


@contextlib.contextmanager
def _held(pid: int, started: int) -> Iterator[int | None]:
    descriptor = open_process(pid, started)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _signal(descriptor: int, pid: int, number: signal.Signals, flags: int = 0) -> bool:
    try:
        if not is_pidfd(descriptor):
            _signal_by_number(descriptor, pid, number, flags)
            return True
        try:
            signal.pidfd_send_signal(descriptor, number, None, flags)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                _signal_by_number(descriptor, pid, number, flags)
                return True
            if not flags or error.errno != errno.EINVAL:
                raise
            # An older kernel. The number cannot have gone to another group since we looked: it is
            # taken until the process, alive a moment ago, is reaped.
            os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise NotPermitted(
            f"process {pid} may not be signalled: it belongs to another user",
            "Run autopoll's processes under one user.",
        ) from error
    return True


def _signal_by_number(descriptor: int, pid: int, number: signal.Signals, flags: int) -> None:
    if is_ready(descriptor):
        raise ProcessLookupError(pid)
    if flags:
        os.killpg(pid, number)
    else:
        os.kill(pid, number)
