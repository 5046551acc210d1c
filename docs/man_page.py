"""Returns the man page autopoll(1), made from the commands' own help, in man(7)."""

import textwrap
from collections.abc import Iterator, Sequence

import click

from autopoll.cli import COMMANDS, commands

DESCRIPTION = """\
autopoll keeps warm AI agents answering a message bridge around the clock: each question gets
exactly one answer, whatever process is killed, hung or restarted. A home is a folder with
autopoll.toml; a command works on the home that \\-\\-home or AUTOPOLL_HOME names, else on the
nearest one upward."""
COMMON = ("--json", "--home DIR", "--trust", "-h, --help")  # of all commands, said once
_MARKS = {
    "\\": r"\e", "-": r"\-", "'": r"\(aq", '"': r"\(dq", "`": r"\(ga", "^": r"\(ha",
    "~": r"\(ti",
}  # fmt: skip
ENVIRONMENT = {
    "AUTOPOLL_HOME": "The home, unless --home names one.",
    "AUTOPOLL_TOKEN": "The token of the session that a command of the bridge is to be.",
    "AUTOPOLL_SECTION__KEY": "Overrides a setting, as in AUTOPOLL_DELIVERY__MAX_ATTEMPTS=3.",
    "AUTOPOLL_DEBUG": "With 1, a bug shows its traceback.",
    "NO_COLOR": "No colours.",
}
FILES = {
    "autopoll.toml": "The settings of a home.",
    "shards.d/": "Shards in files of their own.",
    "var/": "The bridge, tokens, logs, and what processes share.",
}


def page(exit_codes: Sequence[tuple[str, str]]) -> str:
    """Return the page; `exit_codes` are codes with their meanings."""
    lines = ['.TH AUTOPOLL 1 "" autopoll "User Commands"', ".SH NAME"]
    lines += [
        r"autopoll \- keep warm AI agents answering a message bridge",
        ".SH SYNOPSIS",
        ".B autopoll",
        r"[\-\-home DIR] [\-\-json] COMMAND [ARGUMENT]...",
        ".SH DESCRIPTION",
        *DESCRIPTION.splitlines(),
    ]
    with click.Context(commands, info_name="autopoll", **commands.context_settings) as context:
        lines += [".SH OPTIONS", *_options(commands, context)]
        for section, names in COMMANDS.items():
            lines.append(f".SH {_quoted(section.upper())}")
            for name in names:
                command = commands.get_command(context, name)
                assert command is not None
                lines += _command(command, f"autopoll {name}", context)
    lines.append(".SH EXIT STATUS")
    lines += [line for code, meaning in exit_codes for line in _item(code, meaning)]
    for title, items in (("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)):
        lines.append(f".SH {title}")
        lines += [line for name, text in items.items() for line in _item(name, text)]
    return "\n".join(lines) + "\n"


def _command(command: click.Command, path: str, parent: click.Context) -> Iterator[str]:
    """Yield what there is to say of a command, and of those below it."""
    with click.Context(command, parent, path.rsplit(" ", 1)[-1]) as context:
        yield f".SS {_quoted(path)}"
        yield f".B {_quoted(path)}"
        yield _escaped(" ".join(command.collect_usage_pieces(context)))
        yield from _paragraphs(command.help or "")
        yield from _options(command, context)
        yield from _paragraphs(command.epilog or "")
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                yield from _command(child, f"{path} {name}", context)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record and record[1] and (command is commands or record[0] not in COMMON):
            yield from _item(*record)


def _item(name: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield f".B {_quoted(name)}"
    yield from _filled(text)


def _paragraphs(text: str) -> Iterator[str]:
    """Yield paragraphs; those that click leaves unwrapped are left so."""
    for paragraph in textwrap.dedent(text).split("\n\n"):
        yield ".PP"
        if paragraph.startswith("\b\n"):
            yield ".nf"
            yield from map(_line, paragraph[2:].splitlines())
            yield ".fi"
        else:
            yield from _filled(paragraph)


def _filled(text: str) -> list[str]:
    return [_line(line) for line in textwrap.wrap(" ".join(text.split()), 90)]


def _line(text: str) -> str:
    """Return a line that is text, whatever it begins with."""
    escaped = _escaped(text)
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _escaped(text: str) -> str:
    return "".join(
        _MARKS.get(char, char if char.isascii() else f"\\[u{ord(char):04X}]") for char in text
    )


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'
