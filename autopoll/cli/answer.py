"""Fetching the answer to an earlier question."""

import signal
from contextlib import closing
from typing import TYPE_CHECKING

import click

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
from autopoll.errors import Exit

if TYPE_CHECKING:
    from autopoll.client.result import Result


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
    from autopoll.client.poller_connection import PollerConnection

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
            client = Client(cli.home, cli.config, bridge)
            results = [client.result(message_id) for message_id in ids]
            pending = [result.id for result in results if result.status == "pending"]
            if no_wait or not pending:
                return _print_all(cli, results)
            if not is_listening(cli.home):
                _print_all(cli, results)
                raise outcome_wait.down(pending)
            with (
                PollerConnection(cli.home, pieces=shows_pieces(cli)) as connection,
                ProgressLine(cli.json) as progress,
            ):
                return await_outcomes(cli, client, list(ids), connection, timeout, progress)
    except KeyboardInterrupt:
        raise interrupted(list(ids)) from None


def _print_all(cli: CommandLine, results: "list[Result]") -> Exit:
    live = Live(several=len(results) > 1)
    return max(print_result(cli, result, live) for result in results)
