"""The private folder a CLI runs in; one for each version of the context.

system.md   the system prompt, read by the CLI at its start
files/      its working folder, empty unless it has tools: then it holds copies of the context files
            under the names they are cited by. Nothing else is below it, no hidden file and no
            symbolic link, so that "within the working folder" is "within the context".
scratch/    its TMPDIR
"""

import asyncio
import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePath

from autopoll.backends.context.context_files import Context, Unreadable
from autopoll.backends.contract import Broken
from autopoll.home.file_stamp import FileStamp
from autopoll.home.home import Home

# Two context paths may have files of one name, and a name may be too long once it can be shown.
_NO_SUCH_NAME = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)

_log = logging.getLogger(__name__)


class Workspace:
    """One version; removed when it is out of date and no process uses it any more."""

    def __init__(self, folder: Path, version: int, stamps: Mapping[Path, FileStamp]) -> None:
        self.folder, self.version, self.stamps = folder, version, stamps
        self.system_file = folder / "system.md"
        self.files = folder / "files"
        self.scratch = folder / "scratch"
        self.current = True
        self._users = 0

    def enter(self) -> None:
        """Count one more process that uses it."""
        self._users += 1

    def leave(self) -> None:
        """Count one process less."""
        self._users -= 1
        self._clear()

    def retire(self) -> None:
        """Mark it as out of date."""
        self.current = False
        self._clear()

    def _clear(self) -> None:
        if not self.current and self._users == 0:
            # What a CLI that was just killed still writes there is gone with the next `up`.
            shutil.rmtree(self.folder, ignore_errors=True)


class Workspaces:
    """Makes a new workspace whenever the context has changed."""

    def __init__(self, home: Home, instance: str | None, context: Context | None) -> None:
        """Prepare; `context` is what tools may see, `instance` whose leftovers may be cleared."""
        self._parent = home.run / "claude" / (instance or f"process-{os.getpid()}")
        self._owned = instance is not None
        self._context = context
        self._folder: Path | None = None
        self._workspace: Workspace | None = None
        self._lock = asyncio.Lock()

    def open(self) -> None:
        """Make the folder, and remove what a dead predecessor of this instance has left."""
        try:
            if self._owned:
                shutil.rmtree(self._parent, ignore_errors=True)
            self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(dir=self._parent))
        except OSError as error:
            raise Broken(f"{self._parent} cannot be made: {error.strerror}") from error

    async def on(self, system: str, version: int) -> Workspace:
        """Return the workspace for this state of the context; a newer one counts as well."""
        async with self._lock:
            workspace = await asyncio.to_thread(self._on, system, version)
            known, self._workspace = self._workspace, workspace
            if known is not None and known is not workspace:
                known.retire()
            return workspace

    def close(self) -> None:
        """Remove everything; no process uses it any more."""
        folder, self._folder, self._workspace = self._folder, None, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            _remove_empty(self._parent, self._parent.parent)

    def _on(self, system: str, version: int) -> Workspace:
        stamps = self._context.listing().files if self._context is not None else {}
        known = self._workspace
        if known is not None and known.version >= version and known.stamps == stamps:
            return known
        if self._folder is None:
            raise Broken("the claude-code backend is not started")
        try:
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            workspace = Workspace(folder, version, stamps)
            workspace.system_file.write_text(system, "utf-8", "replace")
            workspace.system_file.chmod(0o600)
            workspace.files.mkdir(mode=0o700)
            workspace.scratch.mkdir(mode=0o700)
            for path in stamps:
                self._copy(path, workspace.files)
        except OSError as error:
            raise Broken(f"the files for the CLI cannot be written: {error}") from error
        return workspace

    def _copy(self, path: Path, folder: Path) -> None:
        assert self._context is not None
        name = PurePath(self._context.name(path))
        if name.is_absolute() or ".." in name.parts:
            return  # of the same name as another file; it cannot be cited by name either
        try:
            text = self._context.read(str(path)).text
        except Unreadable:  # binary, too large, or gone meanwhile; the prompt's remarks name it
            return
        target = folder / name
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8") as file:
                file.write(text)
            target.chmod(0o400)
        except OSError as error:
            if error.errno not in _NO_SUCH_NAME:
                raise
            _log.info("%s is not among the files of the tools: %s", name, error.strerror)


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # another instance's are in it, or it was never made
            return
