"""Making a home, bringing it up, and taking it down."""

import shlex
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autopoll.cli import completions
from autopoll.cli.base_command import CommandLine, command, folders
from autopoll.cli.conversations import ROTATE
from autopoll.cli.interrupt import RELOADING, home_words, interruptible, process_words
from autopoll.cli.output import say
from autopoll.cli.render import ProgressLine, print_json
from autopoll.errors import ConfigError, Exit

if TYPE_CHECKING:
    from autopoll.bridge.records import AnsweringHome


@command(
    "init",
    fields='{"home","conversation","tokens":{"a","b"}}   # tokens: null when they were made before'
    '\nwith --bridge also "bridge", its url without a password, and "hosts", as `autopoll hosts`',
    example="autopoll init ~/agents && cd ~/agents && autopoll up\n"
    "autopoll init ~/agents --bridge postgresql://agents@db.example.org/agents",
)
@click.argument(
    "folder", metavar="[DIR]", required=False, type=click.Path(), shell_complete=folders
)
@click.option(
    "--bridge",
    metavar="URL",
    help="The bridge of the new home, such as postgresql://…; - reads the url from stdin.",
)
def init(cli: CommandLine, folder: str | None, bridge: str | None) -> None:
    """Make DIR (else --home, else this folder) a home.

    Writes autopoll.toml and conf/supervisord.conf, makes the database and a conversation for each
    shard: its session a asks, its session b is the shard. Their tokens go into var/credentials;
    --json prints those of shard main, this once. On a home that is there already, everything is
    kept and what is missing is made.

    With --bridge the home joins the bridge that several homes share, and what was asked there, or
    founds it. Its sessions and tokens are its own. A password belongs into ~/.pgpass, a service
    file or PGPASSWORD; from stdin it is taken too, and then nobody else may read autopoll.toml.
    """
    from autopoll.bridge.connect import connect
    from autopoll.cli.bridge_input import read_bridge_url
    from autopoll.client.other_homes import other_homes
    from autopoll.home import credentials
    from autopoll.home.config import load
    from autopoll.ops.init import found, prepare

    named = folder or cli.home_name
    url = None if bridge is None else read_bridge_url(bridge)
    home, is_new = found(Path(named or "."), named=bool(named), trusting=cli.trusting, bridge=url)
    config = load(home)
    made = prepare(home, config)
    hosts: list[AnsweringHome] = []
    if url:
        with closing(connect(home, config, read_only=True)) as joined:
            hosts = other_homes(home, joined)
    shards = credentials.read(home).shards
    cli.lost = ROTATE.format(shards["main"])
    if cli.json:
        tokens = made.get("main")
        print_json(
            {
                "home": str(home.root),
                "conversation": shards["main"],
                "tokens": {"a": tokens.a, "b": tokens.b} if tokens else None,
                **({"bridge": str(url), "hosts": hosts} if url else {}),
            }
        )
        return
    if not is_new:
        say(f"{home.root} is a home already; its settings and tokens are kept")
    else:
        say(f"made the home {home.root}")
        say(f"settings in {home.config}, tokens in {home.credentials} (yours alone)")
    if url:
        others = f"{len(hosts)} other home{'s' * (len(hosts) > 1)}"
        shared = f"shared with {others}" if hosts else "which no other home answers for yet"
        say(f"its bridge is {url}, {shared}")
    there = "" if home.root == Path.cwd() else f"cd {shlex.quote(str(home.root))} && "
    say(f"next: {there}autopoll up && autopoll ask 'What is this about?'")


@command(
    "up",
    fields='{"home","ready"}',
    example="autopoll up\nautopoll up --foreground   # for containers and systemd",
)
@click.option("--foreground", is_flag=True, help="Stay as supervisord itself until stopped.")
def up(cli: CommandLine, foreground: bool) -> int:
    """Start supervisord with poller, workers and watchdog, and wait until all are ready.

    What another command is just starting is waited for. A gateway that cannot listen keeps nothing
    else from coming up: the reason is shown, the exit code is 1 and "ready" false, and it is tried
    again by itself every second. With --foreground, stdout shows what happens, a line each.
    """
    from autopoll.home.config import load
    from autopoll.ops.up import up, up_in_foreground

    if foreground:
        up_in_foreground(cli.home, cli.config)
    with ProgressLine(cli.json) as progress, interruptible(lambda: home_words(cli.home)):
        other = up(cli.home, cli.config, progress.say)
    code = _gateway(cli)
    if cli.json:
        print_json({"home": str(cli.home.root), "ready": code == Exit.OK})
    else:
        by = f" (started by another command, as process {other})" if other else ""
        shards = load(cli.home).shards  # they may have changed while we waited
        say(f"{cli.home.root} is up: {', '.join(shards)} ready{by}")
    return code


@command("down", fields='{"home","was_up"}', example="autopoll down")
def down(cli: CommandLine) -> None:
    """Finish what is in flight, then stop everything. Unanswered questions are kept.

    A mistake in the settings is no hindrance.
    """
    from autopoll.ops.down import down

    home = cli.home
    try:
        config = cli.config
    except ConfigError as error:
        say(f"autopoll: going down all the same: {error.what}", err=True)
        config = None
    with ProgressLine(cli.json) as progress, interruptible(lambda: home_words(home)):
        was_up = down(home, config, progress.say)
    if cli.json:
        print_json({"home": str(cli.home.root), "was_up": was_up})
    else:
        say(f"{cli.home.root} is down{'' if was_up else ', as it was before'}")


@command(
    "restart", fields='{"home","restarted"}', example="autopoll restart\nautopoll restart worker"
)
@click.argument("name", required=False, shell_complete=completions.processes)
def restart(cli: CommandLine, name: str | None) -> int:
    """Drain and restart the process NAME (as in `autopoll status`), or everything."""
    from autopoll.ops.restart import restart_home, restart_program

    home, config = cli.home, cli.config

    def stands() -> tuple[str, str]:
        return process_words(home, name) if name else home_words(home)

    with ProgressLine(cli.json) as progress, interruptible(stands):
        if name is None:
            restart_home(home, config, progress.say)
        else:
            restart_program(home, name, progress.say)
    if cli.json:
        print_json({"home": str(home.root), "restarted": name})
    else:
        say(f"{name or home.root} is up again")
    return _gateway(cli) if name in (None, "gateway") else Exit.OK


@command(
    "reload",
    fields='{"added","changed","removed","unchanged","poller","gateway","waiting"}\n'
    "names of shards; poller: unchanged, in place, restarted; waiting: shard -> questions",
    example="autopoll reload",
)
def reload(cli: CommandLine) -> int:
    """Have the running home take up changed settings.

    Workers of changed sections finish what they have in hand and restart, new ones are added,
    and those of removed sections end. All others, and their questions, are left alone. The poller
    takes up most settings in place; new ones of [bridge], [access] and of the size and number of
    messages restart it, alone. The gateway restarts when shards come or go. A file with a mistake
    changes nothing.
    """
    from autopoll.ops.reload import reload as take_up

    with ProgressLine(cli.json) as progress, interruptible(lambda: RELOADING):
        done = take_up(cli.home, progress.say)
    code = Exit.OK if done.gateway in ("unchanged", "removed") else _gateway(cli)
    if cli.json:
        print_json(done)
        return code
    for what, names in (
        ("added", done.added),
        ("changed", done.changed),
        ("removed", done.removed),
        ("unchanged", done.unchanged),
    ):
        if names:
            say(f"{what + ':':<11}{', '.join(names)}")
    say(f"{'poller:':<11}{done.poller}")
    if done.gateway != "unchanged":
        say(f"{'gateway:':<11}{done.gateway}")
    for shard, count in done.waiting.items():
        say(
            f"{count} questions are kept for shard {shard}, which is no more; add it again, or "
            f"give them up: autopoll shards remove {shard} --force"
        )
    return code


def _gateway(cli: CommandLine) -> Exit:
    """Tell on stderr why the gateway does not serve, if it does not; return what that counts as."""
    from autopoll.ops.readiness import given_up
    from autopoll.process import heartbeat
    from autopoll.process.heartbeat import ProcessState

    if not cli.config.gateway.enabled:
        return Exit.OK
    beat = heartbeat.read(cli.home.beats / "gateway")
    if beat is not None and beat.state is ProcessState.HELD:
        say(f"autopoll: the gateway is held: {beat.note}", err=True)
        say("  It is tried again every second; all else is up.", err=True)
        return Exit.FAILED
    if failed := given_up(cli.home):  # of all programs only this one may, with the home up
        say(f"autopoll: {failed.what}", err=True)
        say("  All else is up. Mend that, then: autopoll restart gateway", err=True)
        return Exit.FAILED
    return Exit.OK
