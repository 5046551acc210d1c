"""What the demonstrations tell, the promises that they check, and how they end."""

import os
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

SHOWN_LINES = 9


class BrokenPromise(Exception):
    """Something is not as the README says."""


class Show(Protocol):
    """A demonstration in a scratch folder."""

    def run(self) -> None:
        """Show everything, in order."""

    def clean_up(self) -> None:
        """Leave nothing running, whatever came before."""


def perform(prepare: Callable[[Path], Show]) -> int:
    """Run a show in a scratch folder of its own and return its exit code."""
    signal.signal(signal.SIGTERM, terminated)
    signal.signal(signal.SIGHUP, terminated)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="autopoll-demo-") as folder:
        show = prepare(Path(folder).resolve())
        try:
            show.run()
        except BrokenPromise as error:
            print(f"\ndemo: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\ndemo: interrupted, taking everything down", file=sys.stderr)
            return 130
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            show.clean_up()
    heading(f"All of it as promised, in {time.monotonic() - begun:.0f} s")
    return 0


def promise(kept: object, text: str) -> None:
    """Stop the show when a promise is not kept."""
    if not kept:
        raise BrokenPromise(f"not true: {text}")


def until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Return the condition's first true value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        promise(time.monotonic() < end, f"within {seconds:.0f} s: {what}")
        time.sleep(0.02)
    return value


def quoted(argument: str) -> str:
    """Return an argument as a shell wants it."""
    return f"'{argument}'" if " " in argument else argument


def painted(text: str, code: int) -> str:
    """Return the text in a colour, on a terminal that wants it."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ:
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def heading(text: str) -> None:
    """Begin a part of the show."""
    print(f"\n{painted(text, 1)}", flush=True)


def command(text: str) -> None:
    """Show what is typed."""
    print(f"\n  {painted('$ ' + text, 36)}", flush=True)


def say(text: str) -> None:
    """Show what came of it."""
    print(textwrap.indent(text, "  "), flush=True)


def show(result: dict[str, Any]) -> None:
    """Show an answer, its first lines when it is long."""
    lines = result["answer"].splitlines()
    say("\n".join(lines[:SHOWN_LINES]) + ("\n…" if len(lines) > SHOWN_LINES else ""))
    say(painted(f"Sources: {', '.join(result['sources'])} ({result['latency_ms']} ms)", 32))


def terminated(number: int, _frame: FrameType | None) -> None:
    """End as by Ctrl-C, so that everything is taken down."""
    raise KeyboardInterrupt(number)
