"""A folder for programs that must leave nothing behind."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Make a folder with a short path, as a socket's must be; in the end it must be empty.

    No process may work there either.
    """
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        folder = Path(name).resolve()
        yield folder
        left = [process for process in psutil.process_iter() if _is_in(process, folder)]
        for process in left:
            process.kill()
        assert left == []
        assert list(folder.iterdir()) == []


def _is_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False
