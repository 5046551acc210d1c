"""Fetching the answer to an earlier question."""

import signal
from contextlib import closing

import click

from autopoll.bridge.connect import connect_when_needed
from autopoll.cli import completions
from autopoll.cli.awaiting import (
    FIELDS,
    await_outcomes,
    interrupted,
    print_result,
    shows_pieces,
)
from autopoll.cli.base_command import CommandLine, DurationType, command
from autopoll.cli.render import ProgressLine
from autopoll.cli.streaming import Live
from autopoll.client import outcome_wait
from autopoll.client.client import Client
from autopoll.client.listening import is_listening
from autopoll.client.poller_connection import PollerConnection
from autopoll.client.result import Result
from autopoll.errors import Exit


@command(
    "answer",
    fields=f"{FIELDS} a line",
    example="autopoll answer 42\nautopoll answer 42 --no-wait --json",
)
@click.argument(
    "ids",
    metavar="ID...",
    nargs=-1,
    required=True,
    type=click.IntRange(1, 2**63 - 1),
    shell_complete=completions.questions,
)
@click.option(
    "--timeout", type=DurationType(), default="5m", show_default=True, help="How long to wait."
)
@click.option("--no-wait", is_flag=True, help="Show how it stands now.")
def answer(cli: CommandLine, ids: tuple[int, ...], timeout: float, no_wait: bool) -> int:
    """Show the answer to question ID, waiting for it if need be."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            closing(connect_when_needed(cli.home, cli.config, read_only=True)) as bridge,
            PollerConnection(cli.home, pieces=shows_pieces(cli)) as connection,
        ):
            client = Client(cli.home, cli.config, bridge)
            results = client.results(ids, connection)
            pending = [result.id for result in results if result.status == "pending"]
            if no_wait or not pending:
                return _print_all(cli, results)
            if not (connection.is_open or is_listening(cli.home)):
                _print_all(cli, results)
                raise outcome_wait.down(pending)
            with ProgressLine(cli.json) as progress:
                return await_outcomes(cli, client, list(ids), connection, timeout, progress)
    except KeyboardInterrupt:
        raise interrupted(list(ids)) from None


def _print_all(cli: CommandLine, results: list[Result]) -> Exit:
    live = Live(several=len(results) > 1)
    return max(print_result(cli, result, live) for result in results)
