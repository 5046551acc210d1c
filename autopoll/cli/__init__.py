"""The command line. Each command's module is imported when it is called, so that start-up is quick.

Errors go to stderr as `autopoll: what happened` and what to do about it, or with --json as one
object `{"error","mend"}`. A traceback is only shown with AUTOPOLL_DEBUG=1.
"""

import json
import os
import sys
from importlib import import_module

import click

from autopoll.cli.front import Front, home_option, json_option
from autopoll.errors import AutopollError, Exit, UsageError

# section -> command -> (module and object, help in one line)
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Home": {
        "init": ("home:init", "Make a folder a home."),
        "up": ("home:up", "Start everything and wait until it is ready."),
        "down": ("home:down", "Finish what is in flight and stop everything."),
        "restart": ("home:restart", "Restart one process, or all of them."),
        "reload": ("home:reload", "Apply a changed autopoll.toml, leaving the rest alone."),
        "shards": ("shards:shards", "Show, add, remove and try shards."),
    },
    "Questions": {
        "ask": ("ask:ask", "Ask a question and wait for the answer."),
        "answer": ("ask:answer", "Show or await the answer to an earlier question."),
    },
    "Bridge": {
        "conversations": ("conversations:conversations", "Show, create and end conversations."),
        "messages": ("messages:messages", "Show messages without taking them."),
        "send": ("messages:send", "Send a message as a session."),
        "inbox": ("messages:inbox", "Take a session's unread messages."),
        "serve": ("conversations:serve", "Let a shard answer a session of a conversation."),
    },
    "Front doors": {
        "mcp": ("mcp:mcp", "Serve an agent over stdin and stdout, by MCP."),
    },
    "Operation": {
        "status": ("status:status", "Show processes, shards and queue."),
        "health": ("status:health", "Check that questions would be answered, for monitors."),
        "incidents": ("incidents:incidents", "Show every kill and restart with its reason."),
        "dead": ("dead:dead", "Show, retry and drop dead letters."),
        "faults": ("faults:faults", "Break a scratch home and show that nothing is lost."),
        "logs": ("logs:logs", "Show the logs, and follow them."),
    },
    "Processes, started by supervisord": {
        "poller": ("roles:poller", "Take questions off the bridge and write answers back."),
        "worker": ("roles:worker", "Hold one warm instance of a shard."),
        "watchdog": ("roles:watchdog", "Tell hung from busy and replace what is broken."),
        "gateway": ("gateway:gateway", "Serve programs and agents over HTTP."),
    },
}
INTERRUPTED = 130  # as shells report a death by SIGINT


class Commands(click.Group):
    """The top group; it knows its commands by the table and imports only the one called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names in the order of the help."""
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None when there is none of that name."""
        for section in COMMANDS.values():
            if cmd_name in section:
                module, _, attribute = section[cmd_name][0].partition(":")
                command = getattr(import_module(f"autopoll.cli.{module}"), attribute)
                assert isinstance(command, click.Command)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command to run, or name those that are spelt like it."""
        if not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            from difflib import get_close_matches

            close = get_close_matches(args[0], self.list_commands(ctx))
            raise UsageError(
                f"there is no command {args[0]!r}",
                f"Did you mean: {', '.join(close)}?" if close else "See: autopoll --help",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections from the table, importing nothing."""
        for section, commands in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Example:
  autopoll init . && autopoll up && autopoll ask 'How do I start?'

\b
Completion (bash; zsh and fish likewise):
  eval "$(_AUTOPOLL_COMPLETE=bash_source autopoll)"
""",
)
@home_option
@json_option
@click.version_option(package_name="autopoll", message="%(prog)s %(version)s")
@click.pass_context
def commands(ctx: click.Context) -> None:
    """Keep warm AI agents answering a message bridge around the clock."""
    ctx.ensure_object(Front)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = sys.argv[1:] if arguments is None else arguments
    return run(commands, args or ["--help"])


def run(command: click.Command, args: list[str], name: str = "autopoll") -> int:
    """Run a command and return its exit code; nothing but a bug in this function raises."""
    if sys.stdout is not None and isinstance(sys.stdout, type(sys.__stdout__)):
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        _check_encoding(args)
        code = command.main(args, prog_name=name, standalone_mode=False)
        if sys.stdout is not None:  # it is when we were started with it closed
            sys.stdout.flush()
    except click.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit, and would complain about it then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except Exception as error:  # the boundary: a person gets a sentence
        if os.environ.get("AUTOPOLL_DEBUG") == "1":
            raise
        return _report(error, as_json="--json" in args)
    return code if isinstance(code, int) else Exit.OK


def _check_encoding(args: list[str]) -> None:
    for number, argument in enumerate(args, 1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"argument {number} is not UTF-8: {argument!r}", "Give text in UTF-8."
            ) from None


def _report(error: Exception, *, as_json: bool) -> int:
    """Say what happened on stderr and return the exit code that stands for it."""
    what, mend, code = _words(error)
    if as_json:
        text = json.dumps({"error": what, "mend": mend})
    else:
        text = f"autopoll: {what}" + (f"\n  {mend}" if mend else "")
    click.echo(text, err=True)
    return code


def _words(error: Exception) -> tuple[str, str, int]:
    """Return (what, mend, exit code) of any error."""
    if isinstance(error, AutopollError):
        return error.what, error.mend, error.exit_code
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "autopoll"
        if type(error).__name__ == "NoArgsIsHelpError":
            return f"{path} needs a command", error.format_message(), Exit.USAGE
        return error.format_message(), f"See: {path} --help", Exit.USAGE
    if isinstance(error, OSError):
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or error}{place}", "", Exit.FAILED
    what = getattr(error, "what", None)
    if isinstance(what, str):  # fifo's errors, which know nothing of ours
        return what, getattr(error, "mend", ""), Exit.FAILED
    return (
        f"this is a bug in autopoll: {type(error).__name__}: {error}",
        "Run it again with AUTOPOLL_DEBUG=1 and report what it prints.",
        Exit.FAILED,
    )
