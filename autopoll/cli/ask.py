"""Asking, and fetching the answer later."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from autopoll.cli.base_command import CommandLine, DurationType, command
from autopoll.cli.output import OutputLost, is_terminal, say
from autopoll.cli.reading import read_lines, read_question
from autopoll.cli.render import ProgressLine, print_json
from autopoll.cli.streaming import Live
from autopoll.errors import Down, Exit, Interrupted, NotFound, RateLimited, TimedOut, UsageError

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

if TYPE_CHECKING:
    from autopoll.bridge.records import QueryState
    from autopoll.client.availability import Obstacle
    from autopoll.client.client import Client, StoredQuestions
    from autopoll.client.partial_answer import AnswerPiece
    from autopoll.client.result import Result
    from autopoll.home.config import Config
    from autopoll.process.waiter import Waiter

FIELDS = '{"id","status","answer","sources","shard","attempts","latency_ms"}'
BATCH = 200  # questions of one commit; small enough that the first answers come while we send


@command(
    "ask",
    fields=f"{FIELDS} a line\nstatus: answered, error (answer holds the reason), pending",
    example="autopoll ask 'How do I run the tests?'\n"
    "git diff | autopoll ask - --shard reviewer --timeout 10m\n"
    "autopoll ask 'Why is it so?' --shard history,code   # --all asks every shard\n"
    "autopoll ask --lines --json < questions.txt",
)
@click.argument("question", required=False)
@click.option("--shard", metavar="NAMES", help="Whom to ask, as in history,code; else main.")
@click.option("--all", "to_all", is_flag=True, help="Ask every shard, as if all were named.")
@click.option("--lines", is_flag=True, help="Read a question a line from stdin; skip empty lines.")
@click.option("--context-file", metavar="FILE", help="A file of the shard's context to look into.")
@click.option(
    "--timeout", type=DurationType(), default="5m", show_default=True, help="How long to wait."
)
@click.option("--no-wait", is_flag=True, help="Store the question, print its id, and return.")
def ask(
    cli: CommandLine,
    question: str | None,
    shard: str | None,
    to_all: bool,
    lines: bool,
    context_file: str | None,
    timeout: float,
    no_wait: bool,
) -> int:
    """Ask QUESTION (- reads it from stdin) and print the answer with its sources.

    The answers of several shards come side by side, on a narrow terminal one below another. A shard
    that is paused or down shows its reason beside the others' answers; the exit code is the worst.

    On a terminal the answer is shown as it is written, if the backend tells it piece by piece.

    The question is kept once it is sent: Ctrl-C, a time-out or a stopped autopoll only end the
    waiting, and `autopoll answer ID` takes it up again.
    """
    from autopoll.bridge.connect import connect
    from autopoll.client import outcome_wait
    from autopoll.client.client import Client
    from autopoll.process.waiter import Waiter

    if shard is not None and to_all:
        raise UsageError("--shard and --all exclude each other", "Give one of them.")
    if lines and question not in (None, "-"):
        raise UsageError("--lines reads questions from stdin", "Leave QUESTION out.")
    if question is None and not lines:
        raise UsageError("there is no question", "Give one: autopoll ask 'How …?'")
    home, config = cli.home, cli.config
    limit = config.delivery.max_message
    questions = read_lines(limit) if lines else [read_question(question or "", limit)]
    shards = list(config.shards) if to_all else _named(shard, config)
    bridge = connect(home, config)
    ids: list[int] = []
    # Whoever ends us by a signal wants the same as with Ctrl-C: no bell left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        client = Client(home, config, bridge)
        if no_wait:
            heard = True
            for asked in _send(client, shards, questions, context_file, None, ids):
                heard = asked.listening
                for message_id in asked.ids:
                    _print_id(cli, message_id)
            if not heard:
                say(f"autopoll: {outcome_wait.down(ids).what}", err=True)
            return Exit.OK
        with Waiter(home) as waiter, ProgressLine(cli.json) as progress:
            if len(shards) > 1 and not lines:
                from autopoll.cli import side_by_side
                from autopoll.client.fan_out import FanOut

                fan_out = FanOut(client, waiter)
                for each in shards:
                    with _undisturbed():
                        ids += fan_out.ask(questions[0], each, context_file)
                return side_by_side.show(cli, fan_out, shards, timeout, progress)
            heard = True
            progress.say("sending")
            for asked in _send(client, shards, questions, context_file, waiter, ids):
                heard = asked.listening
            if not heard:
                for message_id in ids if cli.json else []:
                    _print_id(cli, message_id)
                raise outcome_wait.down(ids)
            return _await(cli, client, ids, waiter, timeout, progress)
    except KeyboardInterrupt:
        raise _interrupted(ids) from None
    except OutputLost:
        cli.lost = _kept(ids)
        raise
    finally:
        bridge.close()


@command(
    "answer",
    fields=f"{FIELDS} a line",
    example="autopoll answer 42\nautopoll answer 42 --no-wait --json",
)
@click.argument("ids", metavar="ID...", nargs=-1, required=True, type=click.IntRange(1, 2**63 - 1))
@click.option(
    "--timeout", type=DurationType(), default="5m", show_default=True, help="How long to wait."
)
@click.option("--no-wait", is_flag=True, help="Show how it stands now.")
def answer(cli: CommandLine, ids: tuple[int, ...], timeout: float, no_wait: bool) -> int:
    """Show the answer to question ID, waiting for it if need be."""
    from autopoll.bridge.connect import connect
    from autopoll.client import outcome_wait
    from autopoll.client.client import Client
    from autopoll.client.listening import is_listening
    from autopoll.process.waiter import Waiter

    bridge = connect(cli.home, cli.config, read_only=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        client = Client(cli.home, cli.config, bridge)
        results = [client.result(message_id) for message_id in ids]
        if no_wait or all(result.status != "pending" for result in results):
            live = Live(several=len(ids) > 1)
            return max(_print_result(cli, result, live) for result in results)
        if not is_listening(client.home):
            for result in results:
                _print_result(cli, result, Live(several=len(ids) > 1))
            raise outcome_wait.down([result.id for result in results if result.status == "pending"])
        with Waiter(cli.home) as waiter, ProgressLine(cli.json) as progress:
            return _await(cli, client, list(ids), waiter, timeout, progress)
    except KeyboardInterrupt:
        raise _interrupted(list(ids)) from None
    finally:
        bridge.close()


def _send(
    client: "Client",
    shards: list[str],
    questions: list[str],
    context_file: str | None,
    waiter: "Waiter | None",
    ids: list[int],
) -> Iterator["StoredQuestions"]:
    """Store the questions batch by batch, at the pace that the session's budget allows.

    Their ids are added to `ids` before an interrupt is let in: whoever interrupts is told them.
    """
    batch = min(BATCH, client.config.access.rate_burst)
    for start in range(0, len(questions), batch):
        for shard in shards:
            part = questions[start : start + batch]
            while True:
                try:
                    with _undisturbed():
                        asked = client.ask(part, shard, context_file=context_file, waiter=waiter)
                        ids += asked.ids
                    break
                except RateLimited as error:
                    if len(questions) == 1:
                        raise
                    wait = error.wait_ms / 1000
                time.sleep(wait)
            yield asked


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let an interrupt in only when the block has ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)


def _named(names: str | None, config: "Config") -> list[str]:
    """Return the shards named, each once; raise NotFound before anything is sent to the others."""
    if names is None:
        return ["main"]
    shards = list(dict.fromkeys(name.strip() for name in names.split(",")))
    if unknown := [name for name in shards if name not in config.shards]:
        raise NotFound(
            f"there is no shard {', '.join(map(repr, unknown))}",
            f"There are: {', '.join(config.shards)}.",
        )
    return shards


def _await(
    cli: CommandLine,
    client: "Client",
    ids: list[int],
    waiter: "Waiter",
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

    on_piece = show if is_terminal(sys.stdout) and not cli.json else None
    try:
        for result in client.wait(ids, waiter, timeout=timeout, on_news=tell, on_piece=on_piece):
            settled += 1
            with progress.aside():
                code = max(code, _print_result(cli, result, live))
    except (TimedOut, Down):
        for message_id in ids[settled:] if cli.json else []:
            print_json(client.result(message_id))
        raise
    finally:
        live.leave()
    return code


def _print_id(cli: CommandLine, message_id: int) -> None:
    if cli.json:
        print_json({"id": message_id, "status": "pending"})
    else:
        say(f"{message_id}")


def _print_result(cli: CommandLine, result: "Result", live: Live) -> Exit:
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


def _interrupted(ids: list[int]) -> Interrupted:
    if not ids:
        return Interrupted("interrupted; nothing was sent")
    return Interrupted("interrupted; the waiting has ended", _kept(ids))


def _kept(ids: list[int]) -> str:
    numbers = " ".join(str(message_id) for message_id in ids[:10]) + " …" * (len(ids) > 10)
    what = "The question is" if len(ids) == 1 else "The questions are"
    return f"{what} kept; fetch with: autopoll answer {numbers}" if ids else "Nothing was sent."
