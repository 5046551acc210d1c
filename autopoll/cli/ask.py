"""Asking a question, or many, of one shard or several."""

import signal
import time
from collections.abc import Iterator
from contextlib import closing

import click

from autopoll.bridge.connect import connect_when_needed
from autopoll.cli import completions
from autopoll.cli.awaiting import (
    FIELDS,
    await_outcomes,
    interrupted,
    kept,
    print_ids,
    shows_pieces,
)
from autopoll.cli.base_command import CommandLine, DurationType, command
from autopoll.cli.interrupt import undisturbed
from autopoll.cli.output import OutputLost, say
from autopoll.cli.question_input import read_lines, read_question, require_stdin
from autopoll.cli.render import ProgressLine
from autopoll.client import outcome_wait
from autopoll.client.client import Client
from autopoll.client.poller_connection import PollerConnection
from autopoll.errors import AutopollError, Exit, RateLimited, UsageError

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
@click.option(
    "--shard",
    metavar="NAMES",
    shell_complete=completions.shards,
    help="Whom to ask, as in history,code; else main.",
)
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

    On a terminal the answer is shown as it is written, if the backend gives it piece by piece.

    With --lines and --json each line is asked as it comes and answered in its order, as soon as it
    can be, so that a program may keep this open and write on; the time-out counts for each.

    The question is kept once it is sent: Ctrl-C, a time-out or a stopped autopoll only end the
    waiting, and `autopoll answer ID` takes it up again.
    """
    _refuse_contradictions(question, shard, to_all, lines)
    limit = cli.config.delivery.max_message
    shards = list(cli.config.shards) if to_all else _named(shard)
    # Another signal that ends us means the same as Ctrl-C: what becomes of the questions is said.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    if lines and cli.json and not no_wait:
        return _ask_lines(cli, shards, context_file, timeout)
    questions = read_lines(limit) if lines else [read_question(question or "", limit)]
    compared = len(shards) > 1 and not lines and not no_wait
    pieces = shows_pieces(cli) and not compared
    with (
        closing(connect_when_needed(cli.home, cli.config)) as bridge,
        PollerConnection(cli.home, follow=not no_wait, pieces=pieces) as connection,
    ):
        client = Client(cli.home, cli.config, bridge)
        if len(shards) > 1:  # before anything is sent to one of them
            client.sessions.require_shards(shards, cli.config)
        asking = _Asking(cli, client, connection, shards, questions, context_file)
        try:
            if no_wait:
                return asking.store()
            with ProgressLine(cli.json) as progress:
                if compared:
                    return asking.compare(timeout, progress)
                return asking.wait(timeout, progress)
        except KeyboardInterrupt:
            raise interrupted(asking.ids) from None
        except OutputLost:
            cli.lost = kept(asking.ids)
            raise


def _refuse_contradictions(
    question: str | None, shard: str | None, to_all: bool, lines: bool
) -> None:
    """Raise UsageError for arguments that do not go together."""
    if shard is not None and to_all:
        raise UsageError("--shard and --all exclude each other", "Give one of them.")
    if lines and question not in (None, "-"):
        raise UsageError("--lines reads questions from stdin", "Leave QUESTION out.")
    if question is None and not lines:
        raise UsageError("there is no question", "Give one: autopoll ask 'How …?'")


def _named(names: str | None) -> list[str]:
    """Return the shards named, each once."""
    if names is None:
        return ["main"]
    return list(dict.fromkeys(name.strip() for name in names.split(",")))


def _ask_lines(
    cli: CommandLine, shards: list[str], context_file: str | None, timeout: float
) -> Exit:
    """Ask each line as it comes, for a program that reads the outcomes while it writes on."""
    from autopoll.cli.line_questions import LineQuestions, Lines

    lines = Lines(require_stdin().fileno(), cli.config.delivery.max_message, context_file)
    with closing(connect_when_needed(cli.home, cli.config)) as bridge:
        client = Client(cli.home, cli.config, bridge)
        client.sessions.require_shards(shards, cli.config)  # before anything is sent to one
        with LineQuestions(cli.home, cli, client, lines, shards, context_file, timeout) as asking:
            try:
                return asking.run()
            except KeyboardInterrupt:
                raise interrupted(asking.ids, sent=asking.sent) from None
            except OutputLost:
                cli.lost = kept(asking.ids)
                raise


class _Asking:
    """The questions of one command, and the ids of those that are stored."""

    def __init__(
        self,
        cli: CommandLine,
        client: Client,
        connection: PollerConnection,
        shards: list[str],
        questions: list[str],
        context_file: str | None,
    ) -> None:
        self.ids: list[int] = []
        self._listening = True  # whether a poller was there for the last of them
        self._cli = cli
        self._client = client
        self._connection = connection
        self._shards = shards
        self._questions = questions
        self._context_file = context_file

    def store(self) -> Exit:
        """Store the questions and print their ids."""
        for ids in self._send():
            print_ids(self._cli, ids)
        if not self._listening:
            say(f"autopoll: {outcome_wait.down(self.ids).what}", err=True)
        return Exit.OK

    def wait(self, timeout: float, progress: ProgressLine) -> int:
        """Store the questions, and print their outcomes in this order; return the worst code."""
        progress.say("sending")
        for _ in self._send():
            pass
        if not self._listening:
            if self._cli.json:
                print_ids(self._cli, self.ids)
            raise outcome_wait.down(self.ids)
        return await_outcomes(
            self._cli, self._client, self.ids, self._connection, timeout, progress
        )

    def compare(self, timeout: float, progress: ProgressLine) -> Exit:
        """Ask all shards the one question, and show their outcomes side by side."""
        from autopoll.cli import side_by_side
        from autopoll.client.fan_out import FanOut

        fan_out = FanOut(self._client, self._connection)
        for shard in self._shards:
            with undisturbed():
                self.ids += fan_out.ask(self._questions[0], shard, self._context_file)
        return side_by_side.show(self._cli, fan_out, self._shards, timeout, progress)

    def _send(self) -> Iterator[list[int]]:
        """Store the questions batch by batch, and yield the ids of each."""
        batch = min(BATCH, self._cli.config.access.rate_burst)
        for start in range(0, len(self._questions), batch):
            for shard in self._shards:
                yield self._send_batch(shard, self._questions[start : start + batch])

    def _send_batch(self, shard: str, questions: list[str]) -> list[int]:
        """Store some questions to a shard, as fast as the session's rate limit allows it.

        The ids are kept before an interrupt is let in, so that its words can name them.
        """
        ids: dict[int, int] = {}  # by the place of the question
        before, left = len(self.ids), list(range(len(questions)))
        while left:
            with undisturbed():
                stored, self._listening = self._client.submit(
                    [questions[place] for place in left],
                    shard,
                    context_file=self._context_file,
                    connection=self._connection,
                )
                for place, one in zip(left, stored, strict=True):
                    if not isinstance(one, AutopollError):
                        ids[place] = one.id
                self.ids[before:] = [ids[place] for place in sorted(ids)]
            left = [place for place in left if place not in ids]
            refused = [one for one in stored if isinstance(one, AutopollError)]
            for error in refused:
                if not isinstance(error, RateLimited) or len(self._questions) == 1:
                    if self.ids:
                        error.mend = f"{error.mend} {kept(self.ids)}".strip()
                    raise error
            waits = [error.wait_ms for error in refused if isinstance(error, RateLimited)]
            time.sleep(min(waits, default=0) / 1000)
        return self.ids[before:]
