"""Programs and scripts that the settings name: run only where nobody else can change them."""

import glob
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from autopoll.errors import Untrusted
from autopoll.home import trusted_homes
from autopoll.home.home import Home
from autopoll.home.path_safety import ROOT, Seen, findings, how_to_mend, name_of, outsiders

_SCRIPTS = frozenset(
    (".py", ".pyz", ".sh", ".js", ".mjs", ".cjs", ".ts", ".rb", ".pl", ".php", ".lua", ".jar")
)
_RUNNERS = {
    "python", "pypy", "sh", "bash", "dash", "zsh", "ksh", "fish", "node", "nodejs", "deno", "bun",
    "ruby", "perl", "php", "lua", "java", "env", "uv", "npx", "nice", "nohup", "timeout", "stdbuf",
}  # fmt: skip


def require_safe(root: Path, option: str, paths: Iterable[str]) -> None:
    """Refuse to run programs and scripts that others may write to, or to the folder around them.

    That folder counts even with the sticky bit: interpreters load what lies beside a script. What
    lies in autopoll's own installation can be changed by the same users as autopoll itself. Raises
    Untrusted naming the `option`.
    """
    users = frozenset((os.geteuid(), ROOT)) | outsiders()
    seen: Seen = {}
    own = sys.prefix if sys.prefix != sys.base_prefix else sys.executable
    for path in paths:
        real = Path(os.path.realpath(path))
        if Path(path).is_relative_to(own) or real.is_relative_to(own):
            continue
        found = findings(Path(path), users, seen) + findings(real.parent, users, seen)
        if found and not trusted_homes.holds(root):
            mend = how_to_mend(found, os.geteuid(), root)
            raise Untrusted(
                f"{option}: {path} would be run, and {found[0]}",
                f"{mend}; or have user {name_of(os.geteuid())} trust the home with all that it "
                f"runs, once: autopoll --trust --home {shlex.quote(str(root))} status",
            )


def scripts_among(words: Iterable[str], root: Path, program: str) -> list[str]:
    """Return those words of a command that are files to be run, as absolute paths seen from root.

    Those are all that look like programs, and the first that is a file if the program runs files.
    """
    runs_next = Path(program).name.rstrip("0123456789.") in _RUNNERS
    found = []
    for word in words:
        path = root / word
        try:
            is_file, is_package = path.is_file(), (path / "__main__.py").is_file()
            looks = is_file and (path.suffix in _SCRIPTS or bool(path.stat().st_mode & 0o111))
        except (OSError, ValueError):  # no path at all, or one that nobody here can run
            continue
        if looks or (runs_next and (is_file or is_package)):
            found.append(str(path))
            runs_next = False
    return found


def require_safe_tree(home: Home, search: str) -> None:
    """Refuse a process tree that runs programs, or includes files, that others can change.

    `search` is the PATH that supervisord is given.
    """
    from configparser import RawConfigParser

    conf = home.supervisord_conf
    parser = RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(conf.read_text("utf-8"))

    def values(key: str) -> Iterator[str]:
        for section in parser.sections():
            if text := parser.get(section, key, fallback=""):
                yield text.replace("%(here)s", str(conf.parent))

    paths = []
    for command in values("command"):
        try:
            program, *words = shlex.split(command)
        except ValueError:
            continue  # supervisord says what is wrong with it
        path = str(home.root / program) if "/" in program else shutil.which(program, path=search)
        paths += [path] if path else []
        paths += scripts_among(words, home.root, program)
    for pattern in values("files"):
        for part in pattern.split():
            paths += glob.glob(str(conf.parent / part))  # noqa: PTH207 - may be absolute
    require_safe(home.root, str(conf), paths)
