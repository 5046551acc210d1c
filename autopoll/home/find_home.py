"""Which home a command or a role is for, and whether it may be used, before anything is read."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from autopoll.errors import NotFound
from autopoll.home import trusted_homes
from autopoll.home.home import CONFIG_NAME, Home, default_root
from autopoll.home.path_safety import ROOT, others_may_write
from autopoll.home.trust import enter, explain_refusal


def find(
    explicit: str | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    trusting: bool = False,
    acting: bool = True,
) -> Home:
    """Return the home: `--home`, AUTOPOLL_HOME, the nearest folder upward, the state folder.

    The way upward ends at another file system, and at a folder that others may write to. Raises
    NotFound when none of them holds an autopoll.toml, Untrusted as `enter` does, which is given
    `acting`.
    """
    named = explicit or environ.get("AUTOPOLL_HOME")
    if named:
        # That of Path fails for a user that there is not.
        root = Path(os.path.expanduser(named)).absolute()  # noqa: PTH111
        if not _is_home(root):
            raise NotFound(
                f"{root} is no autopoll home: it holds no {CONFIG_NAME}",
                f"Make one with: autopoll init '{root}'",
            )
        return enter(root, named=True, trusting=trusting, acting=acting)
    here = Path.cwd()
    nearest, ended = _nearest(here, trusting=trusting)
    root = nearest or default_root()
    if nearest is None and not _is_home(root):
        raise NotFound(
            f"no autopoll home: no {CONFIG_NAME} in {here}, above it, or in {root}{ended}",
            "Make one here with: autopoll init . (or name one with --home)",
        )
    return enter(root, named=False, trusting=trusting, acting=acting)


def _is_home(root: Path) -> bool:
    with explain_refusal():
        return (root / CONFIG_NAME).is_file()


def _nearest(here: Path, *, trusting: bool) -> tuple[Path | None, str]:
    """Return the nearest folder upward that may be a home, or None and where the search ended."""
    me = os.geteuid()
    device = here.stat().st_dev
    for folder in (here, *here.parents):
        try:
            facts = folder.stat()
            has = (folder / CONFIG_NAME).is_file()
        except PermissionError:
            return None, f"; {folder} cannot be looked into"
        if facts.st_dev != device:
            return None, f"; the search ends below {folder}, which is another file system"
        shared = others_may_write(str(folder), facts, frozenset((me, ROOT)))
        # A home of our own that was left open is refused by `enter`, with the way to close it.
        left_open = has and facts.st_uid == me and not facts.st_mode & stat.S_ISVTX
        if shared and not left_open:
            if has and ((trusting and folder == here) or trusted_homes.holds(folder)):
                return folder, ""
            passed = f": its {CONFIG_NAME} is passed over" if has else ""
            return None, f"; the search ends at {folder}, which others may write to{passed}"
        if has:
            return folder, ""
    return None, ""
