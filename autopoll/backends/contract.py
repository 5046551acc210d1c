"""What every backend does; one test suite runs over all of them.

A backend is a warm instance that lives in a worker. It is started once, answers many requests,
and is stopped once. It runs on the worker's event loop: what takes long and is not a wait belongs
in a child process, because a blocked loop cannot cancel anything.
"""

from pathlib import Path
from typing import Any, Protocol

import msgspec

from autopoll.errors import AutopollError
from autopoll.request import Refusal, Reply, Request, Usage


class Report(Protocol):
    """Reports the work on one request; each call is a sign of progress.

    No call waits or fails, and none is too often: frequent calls are sent together.
    """

    def __call__(self, note: str) -> None:
        """Report in a few words what is being done; an empty note is only a sign of progress."""
        ...

    def piece(self, text: str) -> None:
        """Report the next piece of the answer's text; what counts in the end is the Reply."""
        ...


class NullReport:
    """A `Report` that drops everything; for questions asked outside of a worker."""

    def __call__(self, note: str) -> None:
        """Drop the note."""

    def piece(self, text: str) -> None:
        """Drop the piece."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend is given to work with."""

    shard: str
    root: Path  # the home; relative paths in options are meant from here
    context: list[Path]  # absolute, resolved: files and folders it may read
    options: dict[str, Any] = {}


class Unanswered(AutopollError):
    """The root of the ways not to answer; `usage` is what the try has cost all the same."""

    def __init__(self, what: str, mend: str = "", *, usage: Usage | None = None) -> None:
        super().__init__(what, mend)
        self.usage = usage


class Retriable(Unanswered):
    """No answer this time; `retry_after_ms` is how long the backend asks us to wait, if known."""

    def __init__(
        self,
        what: str,
        mend: str = "",
        *,
        retry_after_ms: int | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(what, mend, usage=usage)
        self.retry_after_ms = retry_after_ms


class Permanent(Unanswered):
    """Asking again will not help: the text becomes the error answer."""


class Mistaken(Permanent):
    """The question itself is wrong: the text is its answer, and no dead letter is kept of it."""


class Unavailable(Unanswered):
    """The service behind the backend works for nobody just now, and a new instance would not help.

    The shard is paused and its questions are kept: until the time given, else ever longer; with
    bad `credentials` it is tried every five minutes, whatever the time given.
    """

    def __init__(
        self,
        what: str,
        mend: str = "",
        *,
        kind: Refusal,
        resume_after_ms: int | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(what, mend, usage=usage)
        self.kind: Refusal = kind
        self.resume_after_ms = resume_after_ms


class Broken(Unanswered):
    """The instance cannot go on; the worker replaces it, and the query is tried again."""


class Backend(Protocol):
    """A warm instance; built by `Class(setting)`, which raises ConfigError on bad options."""

    concurrency: int  # requests it takes at once; more wait in the bridge

    async def start(self) -> None:
        """Load the context and warm up; raise Broken or Unavailable when it cannot."""
        ...

    async def answer(self, request: Request, report: Report) -> Reply:
        """Answer one question; raise Retriable, Permanent, Unavailable or Broken.

        Cancellation stops the work, and the next answer must not be the cancelled one's.
        """
        ...

    async def probe(self) -> None:
        """Show that it can answer, cheaply; raise Broken when it cannot."""
        ...

    async def stop(self) -> None:
        """End, leaving no child; tolerated twice and before start; within five seconds."""
        ...
