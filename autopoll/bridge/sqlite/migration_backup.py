"""A copy of the database as it was before its schema is changed."""

from pathlib import Path

from autopoll.bridge.sqlite.file_copy import facts, fresh_copy, put_in_place
from autopoll.clock import utc_now
from autopoll.errors import AutopollError, BridgeError

KEPT = 3


def keep_copy(path: Path, version: int, folder: Path) -> None:
    """Keep a copy of a database that nobody writes into meanwhile, and the last of those before.

    Raises BridgeError where that cannot be, with why nothing was migrated.
    """
    stamp = utc_now().strftime("%Y%m%dT%H%M%SZ")
    target = folder / f"{path.stem}-schema-{version}-{stamp}.db"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with fresh_copy(path, target, lambda _: None) as fresh:
            if version:  # else it is another program's, which knows what it should hold
                facts(fresh, path)
            put_in_place(fresh, target, replace=True)
        begin = f"{path.stem}-schema-"
        kept = [each for each in folder.iterdir() if each.name.startswith(begin)]
        for old in sorted(kept, key=lambda each: each.stat().st_mtime)[:-KEPT]:
            old.unlink()
    except (AutopollError, OSError) as error:
        why = error.what if isinstance(error, AutopollError) else f"{folder}: {error.strerror}"
        raise BridgeError(
            f"{path} is of the older schema {version} and is not migrated, as no copy of it can be"
            f" kept: {why}",
            f"Make room at {folder}; or make it a link to a folder on another disk.",
        ) from error
