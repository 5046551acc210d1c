"""Launches supervisord: as a child that goes on by itself, or in the place of this process.

It runs behind a lock, so that a home has one, and as a subreaper, so that orphans of its children
become its own.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from autopoll.backends.environment import bridge_variables, worker_environment
from autopoll.home.config import Config
from autopoll.home.home import Home
from autopoll.ops.line_writer import STDERR, LineWriter
from autopoll.process import signals
from autopoll.process.service_notice import SOCKET as SERVICE_SOCKET

PR_SET_CHILD_SUBREAPER = 36
LOCK_DESCRIPTOR = 3  # supervisord closes what it inherits from 5 upward, and keeps this
# -P, or a json.py among the files of a home would be run in the place of Python's own.
_MODULE = [sys.executable, "-P", "-m"]


def launch(home: Home, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `autopoll up --foreground` in a session of its own: Ctrl-C is for its parent alone."""
    with _errors(home).open("wb") as stderr:
        return subprocess.Popen(
            [*_MODULE, "autopoll", "up", "--foreground", "--home", str(home.root)],
            cwd=home.root,
            env=fixed_imports(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )


def why_ended(home: Home, launched: subprocess.Popen[bytes]) -> str:
    """Return why what was launched has ended; empty while it runs."""
    if launched.poll() is None:
        return ""
    code = launched.returncode
    ending = f"exit code {code}" if code else "it was shut down while it started"
    return _errors(home).read_text("utf-8", "replace").strip() or ending


def become_supervisord(home: Home, config: Config, lock: int) -> NoReturn:
    """Replace this process by supervisord, which keeps the descriptor of its lock open."""
    os.dup2(lock, LOCK_DESCRIPTOR)
    os.set_inheritable(LOCK_DESCRIPTOR, True)  # dup2 does nothing when the numbers are the same
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        # Then init adopts orphans; they are found by their marks all the same.
        reason = os.strerror(ctypes.get_errno())
        LineWriter(STDERR).write_line(
            f"autopoll: orphans go to init, for no subreaper is allowed: {reason}"
        )
    environ = supervisord_environment(os.environ, config)
    os.chdir(home.root)
    signals.hold_back()  # until supervisord has handlers
    os.execve(  # noqa: S606 - no shell is wanted
        sys.executable,
        [*_MODULE, "autopoll.ops.supervisord", "-n", "-s", "-c", str(home.supervisord_conf)],
        environ,
    )


def supervisord_environment(inherited: Mapping[str, str], config: Config) -> dict[str, str]:
    """Return the environment for supervisord: of ours only what workers may have,
    and where its service manager listens."""
    kept = worker_environment(
        fixed_imports(inherited), [each.options for each in config.shards.values()]
    )
    if config.bridge.url.is_server:  # every role has them, and a worker forgets them
        kept |= {name: inherited[name] for name in bridge_variables(inherited)}
    if SERVICE_SOCKET in inherited:
        kept[SERVICE_SOCKET] = inherited[SERVICE_SOCKET]
    # conf/supervisord.conf says `autopoll`: the one of this installation, activated or not.
    folders = [str(Path(sys.executable).parent)]
    if script := shutil.which("autopoll"):
        folders.append(str(Path(script).parent))
    kept["PATH"] = os.pathsep.join([*folders, kept.get("PATH", os.defpath)])
    return kept


def fixed_imports(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment by which Python imports the same in every folder.

    An empty entry of PYTHONPATH (`:/opt/lib`) is the folder in which a program is started: for our
    processes that is the home, whose files are data and never to be run.
    """
    fixed = dict(environ)
    if entries := fixed.pop("PYTHONPATH", ""):
        named = filter(None, entries.split(os.pathsep))
        fixed["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in named)
    return fixed


def _errors(home: Home) -> Path:
    return home.log / "up.stderr"
