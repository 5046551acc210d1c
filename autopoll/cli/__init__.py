"""The command line. Each command's module is imported when it is called, so that start-up is quick.

Errors go to stderr as `autopoll: what happened` and what to do about it, or with --json as one
object `{"error","mend"}`. A traceback is only shown with AUTOPOLL_DEBUG=1.
"""

import gc
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from autopoll import __version__
from autopoll.cli import output
from autopoll.cli.base_command import CommandLine, Helped, home_option, json_option
from autopoll.cli.error_text import error_text, report
from autopoll.cli.output import is_terminal, say
from autopoll.errors import Exit, Interrupted, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# section -> command -> (module and object, help in one line)
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Home": {
        "init": ("lifecycle:init", "Make a folder a home."),
        "up": ("lifecycle:up", "Start everything and wait until it is ready."),
        "down": ("lifecycle:down", "Finish what is in flight and stop everything."),
        "restart": ("lifecycle:restart", "Restart one process, or all of them."),
        "reload": ("lifecycle:reload", "Apply changed settings, leaving the rest alone."),
        "shards": ("shards:shards", "Show, add, remove and try shards."),
    },
    "Questions": {
        "ask": ("ask:ask", "Ask a question and wait for the answer."),
        "answer": ("answer:answer", "Show or await the answer to an earlier question."),
        "trace": ("trace:trace", "Show how a question came to its answer."),
    },
    "Bridge": {
        "conversations": ("conversations:conversations", "Show, create and end conversations."),
        "messages": ("messages:messages", "Show messages without taking them."),
        "send": ("messages:send", "Send a message as a session."),
        "inbox": ("messages:inbox", "Take a session's unread messages."),
        "bridge": ("bridge:bridge", "Prepare a PostgreSQL server, or move a bridge there."),
        "serve": ("serve:serve", "Let a shard answer a session of a conversation."),
    },
    "Front doors": {
        "mcp": ("mcp:mcp", "Serve an agent over stdin and stdout, by MCP."),
        "desk": ("desk:desk", "Open the page in a browser."),
    },
    "Operation": {
        "status": ("status_health:status", "Show processes, shards and queue."),
        "top": ("top:top", "Show processes, shards and incidents, live."),
        "health": (
            "status_health:health",
            "Check that questions would be answered, for monitors.",
        ),
        "queue": ("queue:queue", "Show what waits, and which worker is at which question."),
        "cancel": ("queue:cancel", "Take questions back."),
        "doctor": ("doctor:doctor", "Name the first broken hop of a question, and its mend."),
        "pause": ("pause:pause", "Keep a shard from answering until it is resumed."),
        "resume": ("pause:resume", "End the pause of a shard."),
        "hosts": ("hosts:hosts", "Show the homes that share the bridge."),
        "incidents": ("incidents:incidents", "Show every kill and restart with its reason."),
        "dead": ("dead:dead", "Show, retry and drop dead letters."),
        "faults": ("faults:faults", "Break a scratch home and show that nothing is lost."),
        "backup": ("backup_restore:backup", "Copy the bridge to a file, while it is in use."),
        "restore": ("backup_restore:restore", "Put a copy into the place of the bridge."),
        "prune": ("prune:prune", "Remove what is old, and give back its room."),
        "service": ("service_commands:service", "Have systemd run the home from boot on."),
        "completion": ("completion_script:completion", "Print what completes commands in a shell."),
        "logs": ("logs:logs", "Show the logs, and follow them."),
        "audit": ("audit_lines:audit", "Show what sessions did, and what was refused."),
    },
    "Processes, started by supervisord": {
        "poller": ("roles:poller", "Take questions off the bridge and write answers back."),
        "worker": ("roles:worker", "Hold one warm instance of a shard."),
        "watchdog": ("roles:watchdog", "Tell hung from busy and replace what is broken."),
        "gateway": ("gateway:gateway", "Serve programs and agents over HTTP."),
    },
}
COMPLETING = "_AUTOPOLL_COMPLETE"  # set by a shell that asks what a word may become


class Commands(Helped, click.Group):
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
                if not gc.isenabled():  # as __main__ has left it
                    gc.freeze()
                    gc.enable()
                return command
        return None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem[str]]":
        """Return the commands and options that a word may become, importing no command."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text)
            for commands in COMMANDS.values()
            for name, (_, text) in commands.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

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


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        say(f"autopoll {__version__}")
        ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Example:
  autopoll init . && autopoll up && autopoll ask 'How do I start?'

\b
Completion (bash; zsh and fish likewise):
  eval "$(autopoll completion bash)"
""",
)
@home_option
@json_option
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def commands(ctx: click.Context) -> None:
    """Keep warm AI agents answering a message bridge around the clock."""
    ctx.ensure_object(CommandLine)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = sys.argv[1:] if arguments is None else arguments
    return run(commands, args or ["--help"])


def run(command: click.Command, args: list[str], name: str = "autopoll") -> int:
    """Run a command and return its exit code; nothing but a bug in this function raises."""
    output.prepare()
    os.umask(os.umask(0o022) | 0o022)  # no other user may write what we or a backend make
    cli = CommandLine()
    try:
        code = _invoke(command, _decoded(args), name, cli)
        output.finish()
    except output.ReaderGone:
        return Exit.READER_GONE
    except output.OutputLost as error:
        lost = f"the output cannot be written: standard output: {error}"
        report(lost, cli.lost, as_json="--json" in args)
        return max(Exit.FAILED, cli.code)
    except (KeyboardInterrupt, click.Abort):  # of what only looks
        if is_terminal(sys.stderr):
            say(err=True)  # after the ^C that the terminal shows
        return Exit.INTERRUPTED
    except Exception as error:  # the boundary: a person gets a sentence
        if COMPLETING in os.environ:
            return Exit.FAILED  # the shell has asked, and nobody has typed anything yet
        if os.environ.get("AUTOPOLL_DEBUG") == "1":
            raise
        if (isinstance(error, Interrupted) or _is_ctrl_c(error)) and is_terminal(sys.stderr):
            say(err=True)
        if _is_ctrl_c(error):
            return Exit.INTERRUPTED
        what, mend, code = error_text(error)
        report(what, mend, as_json="--json" in args)
    return code


def _is_ctrl_c(error: BaseException) -> bool:
    """Tell whether an error only wraps a Ctrl-C, as one in the import of a library may do."""
    cause = error.__cause__
    return cause is not None and (isinstance(cause, KeyboardInterrupt) or _is_ctrl_c(cause))


def _invoke(command: click.Command, args: list[str], name: str, cli: CommandLine) -> int:
    """Find the command and call it: what click's own `main` does, which takes a broken pipe of ours
    for one of stdout, and prints by itself."""
    if COMPLETING in os.environ:
        command.main(args, prog_name=name, complete_var=COMPLETING)
    try:
        with command.make_context(name, args, obj=cli) as context:
            code = command.invoke(context)
    except click.exceptions.Exit as done:
        code = done.exit_code
    return code if isinstance(code, int) else Exit.OK


def _decoded(args: list[str]) -> list[str]:
    """Return the arguments as the UTF-8 they are, whatever the locale; raise UsageError."""
    decoded = []
    for number, argument in enumerate(args, 1):
        try:
            decoded.append(os.fsencode(argument).decode())
        except UnicodeError:
            raise UsageError(
                f"argument {number} is not UTF-8: {argument!r}", "Give text in UTF-8."
            ) from None
    return decoded
