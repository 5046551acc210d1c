"""What can be mended without any risk: modes of our own files, and folders that are missing."""

import os
import stat
from collections.abc import Iterator

from autopoll.ops.doctor.own_files import private_files
from autopoll.ops.doctor.subject import Subject


def fix(subject: Subject) -> Iterator[str]:
    """Mend that, and yield what was done, a sentence each; raise OSError where it cannot be.

    Nothing of another user's is touched, no link is followed, and nothing is removed or ended.
    """
    home = subject.home
    if not home.run.is_dir() and home.var.is_dir() and home.var.stat().st_uid == os.geteuid():
        home.make_private()
        yield f"made {home.run} again"
    for path in private_files(subject):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags)
        except OSError:  # a link, or not ours to open: it is named, and left
            continue
        try:
            facts = os.fstat(descriptor)
            wanted = 0o700 if stat.S_ISDIR(facts.st_mode) else 0o600
            mode = stat.S_IMODE(facts.st_mode)
            if facts.st_uid == os.geteuid() and mode & 0o077:
                os.fchmod(descriptor, mode & wanted)
                yield f"took {path} away from others: mode {mode:04o} is {mode & wanted:04o} now"
        finally:
            os.close(descriptor)
