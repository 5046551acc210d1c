"""The shards of a home: showing, adding, removing and trying them."""

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autopoll.cli import completions
from autopoll.cli.base_command import CommandLine, command, group
from autopoll.cli.interrupt import interruptible, shard_words
from autopoll.cli.output import say
from autopoll.cli.render import ProgressLine, print_json
from autopoll.errors import Exit, NotFound, UsageError

if TYPE_CHECKING:
    from autopoll.ops.shards.results import CheckResult, Step

REMARKS = 20  # context files that are named
OPTION_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
TRIAL = (
    '{"shard","backend","ok","steps":[{"name","ok","ms","detail","failure","mend"}],\n'
    ' "context":{"files","tokens","window","share","whole","exact"},\n'
    ' "context_remarks":{"total","failed","files":[{"file","reason","skipped","failed"}]},\n'
    ' "canary":{"answer","sources","ms","usage"}}'
)


@group(
    "shards",
    example="autopoll shards\nautopoll shards add notes --backend extract --context .",
    alone=True,
)
def shards() -> None:
    """Show, add, remove and try the shards of the home; alone, it lists them."""
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        context.invoke(shards_list)


@command(
    "list",
    fields='{"name","backend","instances","ready","in_flight","paused","usage_today",\n'
    ' "context_remarks"} a line',
    group=shards,
    example="autopoll shards list --json",
)
def shards_list(cli: CommandLine) -> None:
    """Show every shard with its instances, and what its answers have cost today (UTC)."""
    from autopoll.cli.status_health import print_shards
    from autopoll.ops.status import status as look

    now = look(cli.home, cli.config)
    if cli.json:
        for shard in now.shards:
            print_json(shard)
    else:
        print_shards(now)


@command(
    "add",
    fields='{"shard","new","running","trial":' + TRIAL.replace("\n", "\n ") + "}",
    group=shards,
    example="autopoll shards add code --backend extract --context src --context docs\n"
    "autopoll shards add history --backend claude-code --model haiku --context SESSION-RESUME.md\n"
    "autopoll shards add local --backend openai --model qwen3 \\\n"
    "  --option base_url=http://127.0.0.1:11434/v1 --context notes",
)
@click.argument("name", shell_complete=completions.nothing)
@click.option("--backend", required=True, metavar="B", help="What answers; see docs/backends.md.")
@click.option("--model", metavar="M", help="The model, as --option model=M.")
@click.option(
    "--context",
    "contexts",
    shell_complete=completions.files,
    metavar="PATH",
    multiple=True,
    help="A file or folder to answer from, seen from here; may be given several times.",
)
@click.option("--instances", type=click.IntRange(1, 64), help="How many answer side by side.")
@click.option("--request-timeout", metavar="TIME", help="How long an answer may take; else 120s.")
@click.option("--progress-timeout", metavar="TIME", help="How long without a sign of progress.")
@click.option("--max-memory", metavar="SIZE", help="Memory from which a worker is renewed.")
@click.option("--max-age", metavar="TIME", help="Age from which a worker is renewed.")
@click.option("--max-requests", type=click.IntRange(1), help="Answers until a worker is renewed.")
@click.option("--daily-tokens", type=click.IntRange(1), help="Tokens that a day (UTC) may cost.")
@click.option("--daily-cost", type=float, help="US dollars that a day (UTC) may cost.")
@click.option("--key-env", metavar="NAME", help="The variable that holds the service's key.")
@click.option(
    "--key-file",
    metavar="FILE",
    shell_complete=completions.files,
    help="A private file (0600) that holds the key, seen from here.",
)
@click.option(
    "--option",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="An option of the backend; the value is read as TOML, or else as text.",
)
@click.option("--keep", is_flag=True, help="Leave it in place even if a step fails.")
def add(
    cli: CommandLine,
    name: str,
    backend: str,
    model: str | None,
    contexts: tuple[str, ...],
    instances: int | None,
    request_timeout: str | None,
    progress_timeout: str | None,
    max_memory: str | None,
    max_age: str | None,
    max_requests: int | None,
    daily_tokens: int | None,
    daily_cost: float | None,
    key_env: str | None,
    key_file: str | None,
    pairs: tuple[str, ...],
    keep: bool,
) -> None:
    """Add shard NAME: check it, write shards.d/NAME.toml, start it, and ask it a real question.

    No other shard is touched. What fails is named with its mend, and the shard is taken out again.
    On a home that is down it is checked and written only. To add what is there already, with the
    same settings, is fine.
    """
    from autopoll.ops.shards import add as adding

    home = cli.home
    if key_file is not None:
        key_file = _seen_from_home(key_file, home.root, "--key-file")
    named = {"model": model, "key_env": key_env, "key_file": key_file}
    fields = {
        "backend": backend,
        "context": [_seen_from_home(each, home.root, "--context") for each in contexts] or None,
        "instances": instances,
        "request_timeout": request_timeout,
        "progress_timeout": progress_timeout,
        "max_memory": max_memory,
        "max_age": max_age,
        "max_requests": max_requests,
        "daily_tokens": daily_tokens,
        "daily_cost": daily_cost,
        "options": (_options(pairs) | _given(named)) or None,
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it is taken out again
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    with ProgressLine(cli.json) as progress, interruptible(lambda: shard_words(home, name)):
        added = adding.add(home, name, _given(fields), progress.say, keep=keep)
    if cli.json:
        print_json(added)
        return
    for step in added.trial.steps:
        _print_step(step)
    _print_cost(added.trial)
    state = "is ready" if added.running else "is written down; start it with: autopoll up"
    say(f"shard {name} {state}" + ("" if added.new else " (it was there already)"))


@command(
    "remove",
    fields='{"shard","running","given_up","unserved","elsewhere"}',
    group=shards,
    example="autopoll shards remove history",
)
@click.argument("name", shell_complete=completions.shards)
@click.option(
    "--force",
    is_flag=True,
    help="Give waiting questions an error answer; they become dead letters.",
)
def remove(cli: CommandLine, name: str, force: bool) -> None:
    """Drain shard NAME, stop its processes, and take it out of shards.d or autopoll.toml.

    Refuses while questions wait for it, or a host that is away serves it too. The history of its
    conversation stays, and a shard of the same name takes it up again.
    """
    from autopoll.ops.shards import remove as removing

    with ProgressLine(cli.json) as progress, interruptible(lambda: shard_words(cli.home, name)):
        done = removing.remove(cli.home, name, progress.say, force=force)
    if cli.json:
        print_json(done)
        return
    say(f"shard {name} is removed; the history of its conversation stays")
    if done.elsewhere:
        say(f"its questions are answered on {', '.join(done.elsewhere)}")
    if done.given_up:
        say(f"{done.given_up} waiting questions got an error answer; see: autopoll dead list")


@command(
    "test",
    fields=f"{TRIAL} a line",
    group=shards,
    example="autopoll shards test\nautopoll shards test history --json",
)
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=completions.shards)
def test(cli: CommandLine, names: tuple[str, ...]) -> int:
    """Try shards, or all: settings, size of the context, and a real question, which may cost.

    It is asked through the running home, or else of an instance that is started here and stopped
    again. Exits 0 when all is well, 1 when a step failed.
    """
    from autopoll.ops.process_tree import Tree
    from autopoll.ops.shards.check import ShardCheck

    home = cli.home
    tree = Tree.of(home)
    config = tree.load() if tree else cli.config
    if unknown := [name for name in names if name not in config.shards]:
        raise NotFound(
            f"there is no shard {', '.join(map(repr, unknown))}",
            f"There are: {', '.join(config.shards)}.",
        )
    code = Exit.OK
    for name in dict.fromkeys(names) or config.shards:
        with ProgressLine(cli.json) as progress:
            trial = ShardCheck(home, config, name, tree, progress.say).run()
        code = code if trial.ok else Exit.FAILED
        cli.code = code
        if cli.json:
            print_json(trial)
            continue
        say(f"shard {name}, backend {trial.backend}")
        for step in trial.steps:
            _print_step(step)
        for line in trial.context_remarks.lines(REMARKS):
            say(f"        {line}")
        _print_cost(trial)
    return code


def _print_step(step: "Step") -> None:
    mark = "ok  " if step.ok else "FAIL"
    kind = f" ({step.failure})" if step.failure else ""
    say(f"  {mark}  {step.name}{kind}: {step.detail} [{step.ms} ms]")
    if step.mend:
        say(f"        {step.mend}")


def _print_cost(trial: "CheckResult") -> None:
    if trial.canary and (usage := trial.canary.usage):
        told = f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out"
        told += f", {usage.cached_tokens:,} from a cache" if usage.cached_tokens else ""
        told += f", ${usage.cost_usd:,.4f}" if usage.cost_usd is not None else ""
        say(f"        the question cost {told}")


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _options(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return KEY=VALUE pairs as a table; raise UsageError."""
    import tomllib

    options: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not OPTION_KEY.fullmatch(key):
            raise UsageError(f"--option {pair!r} is not KEY=VALUE", "Write: --option model=haiku")
        if key in options:
            raise UsageError(f"--option {key} is given twice", "Give it once; a list is [1, 2].")
        try:
            value = tomllib.loads(f"value = {text}")
        except (tomllib.TOMLDecodeError, RecursionError):
            value = {"value": text}
        options[key] = value["value"] if len(value) == 1 else text
    return options


def _seen_from_home(name: str, root: Path, option: str) -> str:
    """Return a path given from here as it is to stand in the settings; raise UsageError."""
    if not name.strip():
        raise UsageError(f"{option} is empty", "Name a file or a folder.")
    try:
        path = Path(os.path.abspath(Path(name).expanduser()))  # noqa: PTH100 - `..` goes, links stay
        there = path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{option} {name[:100]!r} is no path: {error}") from error
    if not there:
        raise UsageError(f"{option}: {path} does not exist", "Give a path as seen from here.")
    return os.path.relpath(path, root) if path.is_relative_to(root) else str(path)
