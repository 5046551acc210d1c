"""Printing the outcomes of questions as they come, and what is said when the wait ends early."""

import sys
from typing import TYPE_CHECKING

from autopoll.cli.base_command import CommandLine
from autopoll.cli.output import is_terminal, say
from autopoll.cli.render import ProgressLine, print_json
from autopoll.cli.streaming import Live
from autopoll.errors import Down, Exit, Interrupted, TimedOut

if TYPE_CHECKING:
    from autopoll.bridge.records import QueryState
    from autopoll.client.answer_pieces import AnswerPiece
    from autopoll.client.availability import Obstacle
    from autopoll.client.client import Client
    from autopoll.client.poller_connection import PollerConnection
    from autopoll.client.result import Result

FIELDS = '{"id","status","answer","sources","shard","attempts","latency_ms"}'


def await_outcomes(
    cli: CommandLine,
    client: "Client",
    ids: list[int],
    connection: "PollerConnection",
    timeout: float,
    progress: ProgressLine,
) -> int:
    """Print each outcome as it comes; return the worst exit code."""
    from autopoll.client.result import words

    live = Live(several=len(ids) > 1)
    code = Exit.OK
    settled = 0

    def tell(state: "QueryState", obstacle: "Obstacle | None") -> None:
        if live.news(state):
            return
        of = f" ({settled + 1} of {len(ids)})" if len(ids) > 1 else ""
        paused = client.paused(state.shard) if state.shard else None
        hindered = obstacle.what if obstacle and not paused else ""
        progress.say(words(state, paused, hindered) + of)

    def show(piece: "AnswerPiece") -> None:
        progress.say("")  # which would write over the line that grows
        with progress.aside():
            live.piece(piece)

    on_piece = show if shows_pieces(cli) else None
    try:
        for result in client.wait(
            ids, connection, timeout=timeout, on_news=tell, on_piece=on_piece
        ):
            settled += 1
            with progress.aside():
                code = max(code, print_result(cli, result, live))
    except (TimedOut, Down):
        for message_id in ids[settled:] if cli.json else []:
            print_json(client.result(message_id))
        raise
    finally:
        live.leave()
        say_trouble(cli, connection)
    return code


def say_trouble(cli: CommandLine, connection: "PollerConnection") -> None:
    """Say why the poller was not asked, where it was there and could not be."""
    if connection.trouble and not cli.json:
        say(f"autopoll: {connection.trouble}; asked by way of the bridge", err=True)


def shows_pieces(cli: CommandLine) -> bool:
    """Tell whether answers are shown while they are written."""
    return is_terminal(sys.stdout) and not cli.json


def print_ids(cli: CommandLine, ids: list[int]) -> None:
    """Print the ids of questions that are stored and not waited for."""
    for message_id in ids:
        if cli.json:
            print_json({"id": message_id, "status": "pending"})
        else:
            say(f"{message_id}")


def print_result(cli: CommandLine, result: "Result", live: Live) -> Exit:
    """Print an outcome and return the exit code it stands for."""
    code = Exit.FAILED if result.status == "error" else Exit.OK
    cli.code = max(cli.code, code)
    if cli.json:
        print_json(result)
    elif result.status == "pending":
        say(f"question {result.id} is not answered yet (attempts: {result.attempts})")
    else:
        say(live.outcome(result), nl=False)
        if result.status == "error":
            say(f"autopoll: question {result.id} failed: {result.answer}", err=True)
        elif result.sources:
            say(f"\nSources: {', '.join(result.sources)}")
    return code


def interrupted(ids: list[int], *, sent: bool = False) -> Interrupted:
    """Return the error that says after Ctrl-C what becomes of these questions.

    Without any, `sent` says whether others were, whose outcomes are known.
    """
    if not ids:
        return Interrupted(f"interrupted; nothing {'is waited for' if sent else 'was sent'}")
    return Interrupted("interrupted; the waiting has ended", kept(ids))


def kept(ids: list[int]) -> str:
    """Return that these questions are kept, and how their answers are fetched."""
    numbers = " ".join(str(message_id) for message_id in ids[:10]) + " …" * (len(ids) > 10)
    what = "The question is" if len(ids) == 1 else "The questions are"
    return f"{what} kept; fetch with: autopoll answer {numbers}" if ids else "Nothing was sent."
