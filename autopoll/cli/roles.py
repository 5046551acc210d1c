"""The processes themselves, as conf/supervisord.conf starts them."""

import traceback
from collections.abc import Callable

import click

from autopoll.cli import completions
from autopoll.cli.base_command import CommandLine, command
from autopoll.cli.output import say
from autopoll.errors import ConfigError, Exit
from autopoll.process.lifeline import Lifeline

OUTLAST_S = 4.0  # longer than startsecs in conf/supervisord.conf


@command("poller", example="autopoll poller --home .")
def poller(cli: CommandLine) -> int:
    """Take questions off the bridge, hand them to the workers, and write the answers back.

    One per home; supervisord keeps it alive. Ends when supervisord does.
    """
    from autopoll.poller.poller_process import run

    return run_role(lambda: run(cli.home, cli.config))


@command("worker", example="autopoll worker --home . --shard main --instance 1")
@click.option(
    "--shard",
    shell_complete=completions.shards,
    default="main",
    show_default=True,
    help="The shard it answers for.",
)
@click.option(
    "--instance",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Which of the shard's instances it is.",
)
def worker(cli: CommandLine, shard: str, instance: int) -> int:
    """Hold one warm instance of a shard and answer what the poller hands over."""
    from autopoll.worker.worker import run

    return run_role(lambda: run(cli.home, cli.config, shard, instance))


@command("watchdog", example="autopoll watchdog --home .")
def watchdog(cli: CommandLine) -> int:
    """Read heartbeats, tell hung from busy, and replace what is broken."""
    from autopoll.watchdog.watchdog import run

    # Without the settings: a mistake in autopoll.toml must not leave the home unwatched.
    return run_role(lambda: run(cli.home))


def run_role(run: Callable[[], None]) -> int:
    """Run a role to its end; a bad configuration ends with the code supervisord leaves alone."""
    try:
        run()
    except ConfigError as error:
        say(f"autopoll: {error}", err=True)
        Lifeline().hold_on(OUTLAST_S)
        return Exit.BAD_CONFIG
    except Exception as error:
        # Nobody sits in front of a role: its stderr is a file, and a bug's traceback belongs there.
        if not hasattr(error, "mend"):
            traceback.print_exc()
        raise
    return Exit.OK
