"""Who takes part: homes of autopoll on the server, and other queues on the same one."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from autopoll import __version__
from bench.peers.asker import Asker, asker
from bench.peers.child import finish, running
from bench.peers.contenders import CONTENDERS
from bench.peers.servers import NotInstalled
from bench.postgres.apps.settings import ELSEWHERE, SETTINGS, settings_of

OURS = "autopoll, 1 home"
_HOME = "bench.postgres.apps.home_app"
_PGMQ = "bench.postgres.apps.pgmq_app"
_SLOWEST = 8  # questions one after the other where each takes a second


class Entrant(msgspec.Struct, frozen=True, kw_only=True):
    """One that is measured: how it is started in a folder with a server, and who asks then."""

    name: str
    start: Callable[[Path], AbstractContextManager[Sequence[Asker]]]
    versions: Callable[[], str]
    one: int | None = None  # questions one after the other, where they are fewer


def _homes(count: int) -> Callable[[Path], AbstractContextManager[list[Asker]]]:
    """Homes that all serve one shard; each has an asker."""

    @contextmanager
    def start(server: Path) -> Iterator[list[Asker]]:
        with ExitStack() as stack:
            settings = settings_of(server, ("main",), notified=True)
            yield [
                stack.enter_context(asker(_HOME, _folder(server, f"{count}-{number}", settings)))
                for number in range(count)
            ]

    return start


def _across(*, notified: bool) -> Callable[[Path], AbstractContextManager[list[Asker]]]:
    """A home that asks, and another one that answers."""

    @contextmanager
    def start(server: Path) -> Iterator[list[Asker]]:
        near = _folder(
            server, f"near-{notified}", settings_of(server, ("main",), notified=notified)
        )
        far = _folder(
            server, f"far-{notified}", settings_of(server, ("far", "main"), notified=notified)
        )
        (near / ELSEWHERE).touch()
        with asker(_HOME, far), asker(_HOME, near) as asks:
            yield [asks]

    return start


def _queue(
    app: str, prepare: Sequence[str], worker: Sequence[str]
) -> Callable[[Path], AbstractContextManager[list[Asker]]]:
    """Another queue, with one worker."""

    @contextmanager
    def start(server: Path) -> Iterator[list[Asker]]:
        finish([sys.executable, "-m", *prepare], server)
        with running([sys.executable, "-m", *worker], server), asker(app, server) as asks:
            yield [asks]

    return start


def _folder(server: Path, name: str, settings: str) -> Path:
    folder = server / name
    folder.mkdir()
    (folder / SETTINGS).write_text(settings)
    return folder


def _ours() -> str:
    return f"autopoll {__version__}"


def _installed(package: str) -> Callable[[], str]:
    """Return what names a package and its version, or raises NotInstalled."""

    def found() -> str:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            raise NotInstalled(f"{package} is not installed", "make bench-postgres") from None

    return found


_PROCRASTINATE = next(each for each in CONTENDERS if each.name == "procrastinate")
ENTRANTS = (
    Entrant(name=OURS, start=_homes(1), versions=_ours),
    Entrant(name="autopoll, 2 homes", start=_homes(2), versions=_ours),
    Entrant(name="autopoll, 4 homes", start=_homes(4), versions=_ours),
    Entrant(
        name="autopoll, answered by another home", start=_across(notified=True), versions=_ours
    ),
    Entrant(
        name="the same without NOTIFY",
        start=_across(notified=False),
        versions=_ours,
        one=_SLOWEST,
    ),
    Entrant(
        name="procrastinate",
        start=_queue(
            "bench.peers.apps.procrastinate_app", _PROCRASTINATE.prepare, _PROCRASTINATE.worker
        ),
        versions=_installed("procrastinate"),
    ),
    Entrant(
        name="pgmq",
        start=_queue(_PGMQ, (_PGMQ, "install"), (_PGMQ, "work")),
        versions=_installed("pgmq"),
    ),
)
