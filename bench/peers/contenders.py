"""Who takes part: what must be installed for each, and how it is started, as its makers advise."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from bench.peers.asker import Asker, asker
from bench.peers.child import finish, running
from bench.peers.servers import NotInstalled, postgresql, redis

FLOOR, OURS = "the floor", "autopoll"
_APPS = "bench.peers.apps"
_MODULE = (sys.executable, "-m")

Server = Callable[[Path], AbstractContextManager[str]]


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """One that takes turns with the others.

    `prepare` and `worker` are what follows `python -m`, with {folder} for that of the turn. Without
    a worker, the asker starts what there is.
    """

    name: str
    app: str
    package: str
    server: Server | None = None
    prepare: Sequence[str] = ()
    worker: Sequence[str] = ()
    settings: Mapping[str, str] = {}  # in the worker's environment


class Turn(msgspec.Struct, frozen=True):
    """A contender that is up: who asks it, and the versions of what takes part."""

    asker: Asker
    versions: str


CONTENDERS = (
    Contender(name=FLOOR, app="floor_app", package="apsw"),
    Contender(name=OURS, app="autopoll_app", package="autopoll"),
    Contender(
        name="huey",
        app="huey_app",
        package="huey",
        worker=(
            *("huey.bin.huey_consumer", f"{_APPS}.huey_app.huey", "--quiet", "--no-periodic"),
            *("--workers=1", "--delay=0.001", "--max-delay=0.001", "--backoff=1"),
        ),
    ),
    Contender(
        name="Celery",
        app="celery_app",
        package="celery",
        server=redis,
        worker=("celery", f"--app={_APPS}.celery_app", "worker", "--concurrency=1"),
    ),
    Contender(
        name="RQ",
        app="rq_app",
        package="rq",
        server=redis,
        worker=(
            *("rq.cli", "worker", "--quiet", "--worker-class=rq.SimpleWorker"),
            "--url=unix://{folder}/redis.sock",
        ),
    ),
    Contender(
        name="Dramatiq",
        app="dramatiq_app",
        package="dramatiq",
        server=redis,
        worker=(
            "dramatiq",
            f"{_APPS}.dramatiq_app",
            "--processes=1",
            "--threads=1",
            "--worker-shutdown-timeout=1000",
        ),
        settings={"dramatiq_worker_timeout": "2"},  # polls after 1 ms, in place of up to 1 s
    ),
    Contender(
        name="procrastinate",
        app="procrastinate_app",
        package="procrastinate",
        server=postgresql,
        prepare=("procrastinate", f"--app={_APPS}.procrastinate_app.app", "schema", "--apply"),
        worker=(
            *("procrastinate", f"--app={_APPS}.procrastinate_app.app", "--log-level=warning"),
            *("worker", "--concurrency=64"),
        ),
    ),
)


@contextmanager
def started(contender: Contender, folder: Path) -> Iterator[Turn]:
    """Have a contender up in the folder, and nothing of it afterwards.

    Raises NotInstalled and ProgramFailed.
    """
    versions = [_installed(contender.package)]
    with ExitStack() as stack:
        if contender.server:
            versions.append(stack.enter_context(contender.server(folder)))
        if contender.prepare:
            finish(_command(contender.prepare, folder), folder)
        if contender.worker:
            worker = _command(contender.worker, folder)
            stack.enter_context(running(worker, folder, settings=contender.settings))
        yield Turn(
            stack.enter_context(asker(f"{_APPS}.{contender.app}", folder)), ", ".join(versions)
        )


def _installed(package: str) -> str:
    """Return a package and its version; raise NotInstalled."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        raise NotInstalled(f"{package} is not installed", "make bench-peers") from None


def _command(line: Sequence[str], folder: Path) -> list[str]:
    return [*_MODULE, *(word.replace("{folder}", str(folder)) for word in line)]
