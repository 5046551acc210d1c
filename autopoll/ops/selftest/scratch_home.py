"""A home in a temporary folder that lives for one `with`: up inside, gone afterwards.

Whatever happens inside, nothing is left over: what runs in a scratch home needs no drain.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from autopoll.home.config import load
from autopoll.home.home import socket_path
from autopoll.ops.init import found
from autopoll.ops.readiness import wait_ready
from autopoll.ops.supervisord_launch import launch, why_ended
from autopoll.process import orphans
from autopoll.process.orphans import Marked

_GRACE_S = 0.5
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PLUGINS = "plugins"


class Scratch:
    """The home, and the supervisord that runs it."""

    def __init__(self, root: Path, config: str, backends: dict[str, str]) -> None:
        (root / "autopoll.toml").write_text(config, encoding="utf-8")
        _register(root / _PLUGINS, backends)
        self.home, _ = found(root)
        # Settings that the environment overrides are meant for the home of our caller.
        self.config = load(self.home, {})
        self._supervisord: subprocess.Popen[bytes] | None = None

    def up(self, report: Callable[[str], None]) -> None:
        """Start everything, also after supervisord has died; raise Down with the reason."""
        child = self._supervisord = launch(self.home, self.environ)
        wait_ready(self.home, self.config, report, lambda: why_ended(self.home, child))

    @property
    def environ(self) -> dict[str, str]:
        """What a command in this home is run with: our environment, less what is for another."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("AUTOPOLL_")}
        path = [str(self.home.root / _PLUGINS), *filter(None, [kept.get("PYTHONPATH")])]
        return {**kept, "PYTHONPATH": os.pathsep.join(path)}

    @property
    def is_up(self) -> bool:
        """Whether supervisord lives."""
        return self._supervisord is not None and self._supervisord.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Signal supervisord, and when it was killed, see it dead."""
        if self._supervisord is not None:
            self._supervisord.send_signal(number)
            if number is signal.SIGKILL:
                self._supervisord.wait()

    def processes(self, **marks: str) -> list[Marked]:
        """Return everything that supervisord started, orphans too; only what has these marks."""
        conf = str(self.home.supervisord_conf.parent)
        return orphans.find({"AUTOPOLL_SUPERVISED": conf, **marks})

    def end(self) -> None:
        """Kill all of it, however it is."""
        self.signal(signal.SIGKILL)
        conf = str(self.home.supervisord_conf.parent)
        orphans.sweep({"AUTOPOLL_SUPERVISED": conf}, grace=_GRACE_S)
        socket_path(self.home).unlink(missing_ok=True)  # under a long TMPDIR it lies elsewhere


@contextmanager
def scratch_home(
    config: str, backends: dict[str, str], folder: Path | None = None
) -> Iterator[Scratch]:
    """Make a home with backends of its own (name -> "module:Class") and remove it at the end.

    It lies in `folder`, or where temporary files do.
    """
    root = Path(tempfile.mkdtemp(prefix="autopoll-scratch-", dir=folder)).resolve()
    try:
        scratch = Scratch(root, config, backends)
        try:
            yield scratch
        finally:
            # A second Ctrl-C must not interrupt this, or processes would be left running.
            signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
            scratch.end()
    finally:
        shutil.rmtree(root)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)


def _register(folder: Path, backends: dict[str, str]) -> None:
    """Install backends as any package does, where only this home looks."""
    info = folder / "autopoll_scratch-1.dist-info"
    info.mkdir(parents=True)
    lines = [f"{name} = {place}" for name, place in backends.items()]
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: autopoll-scratch\nVersion: 1\n")
    (info / "entry_points.txt").write_text("\n".join(["[autopoll.backends]", *lines, ""]))
