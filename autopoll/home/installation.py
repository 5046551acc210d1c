"""How autopoll was installed, and so what adds to it one of its extras or another library."""

import json
import re
import shlex
import sys
from enum import StrEnum
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

_UV_RECEIPT = "uv-receipt.toml"  # what `uv tool` and `pipx` keep in the environments they make
_PIPX_RECEIPT = "pipx_metadata.json"
_OF_EXTRA = re.compile(r"""([\w.-]+).*;.*\bextra\s*==\s*['"]([\w-]+)['"]""")
_NOT_FOR_USERS = ("all", "dev", "peers")


class Installer(StrEnum):
    """The program that made the environment this process runs in, as it is called."""

    UV_TOOL = "uv tool"
    PIPX = "pipx"
    UV = "uv pip"
    PIP = "pip"


def installer(prefix: str = sys.prefix) -> Installer:
    """Return what has installed autopoll here; a checkout is installed by pip, or uv, as well."""
    if (Path(prefix) / _UV_RECEIPT).is_file():
        return Installer.UV_TOOL
    if (Path(prefix) / _PIPX_RECEIPT).is_file():
        return Installer.PIPX
    found = _distribution()
    by = found.read_text("INSTALLER") if found else None
    return Installer.UV if (by or "").strip() == "uv" else Installer.PIP


def extra_command(extra: str) -> str:
    """Return the shell command that adds an extra to this installation.

    uv and pipx are given all extras that are there already: they would take the others away.
    """
    by = installer()
    if by in (Installer.UV_TOOL, Installer.PIPX):
        extras = ",".join(sorted({extra, *_extras()}))
        return f"{by} install --force {shlex.quote(f'autopoll[{extras}]{_source()}')}"
    return library_command(f"autopoll[{extra}]")


def library_command(requirement: str) -> str:
    """Return the shell command that adds a library to this installation."""
    python = shlex.quote(sys.executable)
    wanted = shlex.quote(requirement)
    match installer():
        case Installer.PIPX:
            return f"pipx inject autopoll {wanted}"
        case Installer.UV | Installer.UV_TOOL:
            return f"uv pip install --python {python} {wanted}"
        case Installer.PIP:
            return f"{python} -m pip install {wanted}"


def _distribution() -> Distribution | None:
    try:
        return distribution("autopoll")
    except PackageNotFoundError:  # run out of an unpacked archive
        return None


def _extras() -> set[str]:
    """Return the extras whose libraries are all here."""
    needs: dict[str, list[str]] = {}
    found = _distribution()
    for line in (found.requires or ()) if found else ():
        if (match := _OF_EXTRA.match(line)) and match[2] not in _NOT_FOR_USERS:
            needs.setdefault(match[2], []).append(match[1])
    return {extra for extra, names in needs.items() if all(map(_is_installed, names))}


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _source() -> str:
    """Return ` @ URL` when autopoll came from a file, a folder or a repository, as PEP 610 says."""
    found = _distribution()
    text = found.read_text("direct_url.json") if found else None
    if not text:
        return ""
    origin = json.loads(text)
    vcs = origin.get("vcs_info")
    return f" @ {vcs['vcs']}+{origin['url']}@{vcs['commit_id']}" if vcs else f" @ {origin['url']}"
