"""Which Claude Code binary is run, and whether it is new enough; known before anything starts."""

import importlib.util
import os
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from autopoll.backends.contract import Setting
from autopoll.backends.options import option_path
from autopoll.errors import ConfigError
from autopoll.home import program_safety
from autopoll.home.file_stamp import FileStamp
from autopoll.home.installation import extra_command

LEAST = (2, 1, 248)  # older ones would expand an @path that stands in a question
_PATIENCE_S = 10.0  # it prints its version in 30 ms
_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})")


def find_program(setting: Setting, cli_path: str | None) -> Path:
    """Return the named binary, else the one that came with the SDK, else `claude` on PATH.

    Raises ConfigError when there is none, when it is too old, or when its version is unknown.
    """
    option = f"shards.{setting.shard}.options.cli_path"
    if cli_path is not None:
        program = option_path(setting, "cli_path", cli_path)
        if shutil.which(program) is None:
            raise ConfigError(
                f"{option}: {program} is no executable file",
                "Give the path of the claude binary, meant from the home, or leave it out.",
            )
    else:
        found = bundled() or shutil.which("claude")
        if found is None:
            raise ConfigError(
                f"shard {setting.shard}: the Claude Code CLI is not installed",
                f"{_install()} (its wheels for Linux bring the CLI along), or name it in "
                "`cli_path`.",
            )
        program = Path(found)
    program_safety.require_safe(setting.root, option, [str(program)])
    output = _version(program, FileStamp.of(program.stat()))
    number = _VERSION.match(output)
    wanted = ".".join(map(str, LEAST))
    if number is None:
        raise ConfigError(f"{option}: {program} does not say its version: {output}", _install())
    if tuple(map(int, number.groups())) < LEAST:
        raise ConfigError(
            f"{option}: {program} is version {number[0]}, and {wanted} or newer is needed",
            f"Update it, or leave `cli_path` out. {_install()}",
        )
    return program


def _install() -> str:
    return f"Run: {extra_command('claude')}"


def bundled() -> str | None:
    """Return the CLI that came with the SDK, if there is one for this system."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    folders = spec.submodule_search_locations if spec else None
    return shutil.which(Path(next(iter(folders)), "_bundled", "claude")) if folders else None


@lru_cache(maxsize=16)
def _version(program: Path, _stamp: FileStamp) -> str:
    """Return what it prints for --version; run once for each state of the file."""
    try:
        done = subprocess.run(
            [program, "--version"],
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent"},
            stdin=subprocess.DEVNULL,  # an open one without data would hold old versions for ever
            capture_output=True,
            timeout=_PATIENCE_S,
        )
    except OSError as error:
        return f"it cannot be run ({error.strerror})"
    except subprocess.TimeoutExpired:
        return f"nothing within {_PATIENCE_S:.0f} s"
    return done.stdout.decode("utf-8", "replace").strip()[:80] or f"exit code {done.returncode}"
