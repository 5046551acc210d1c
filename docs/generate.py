"""Writes what is not typed by hand: `python docs/generate.py`.

docs/cli.md and docs/autopoll.1 come from the commands' own help, the picture of the rooms in
docs/architecture.md from the import contract.
"""

import configparser
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import click

from autopoll.cli import COMMANDS, commands

HERE = Path(__file__).parent
WIDTH = 72  # of the picture of the rooms
ROOMS = re.compile(r"(?<=<!-- rooms -->\n```text\n).*?(?=\n```)", re.S)
HEAD = """\
# Command line

Made by `make docs` from `autopoll … --help`; a test compares the two.

## Exit codes

| code | meaning |
| --- | --- |
| 0 | good |
| 1 | degraded, or the question failed |
| 2 | down, or not found |
| 3 | supervisord unreachable or hung |
| 4 | usage or configuration |
| 5 | timed out |
| 78 | a role's bad configuration, for supervisord, which then leaves it down |
| 130 | interrupted; one line says what state things are in |
| 141 | whoever read stdout has gone, as in `… \\| head -1`; nothing is said |

## Output

Answers and tables go to stdout, everything else to stderr. With `--json`, stdout holds one JSON
object, or one object a line where a command lists or asks several things, and an error is one
object `{"error","mend"}` on stderr. What takes longer than a second says on stderr what it is
doing, except with `--json`.

Text for people is made harmless on every stream, to a terminal, a pipe or a file: whatever others
wrote (questions, answers, error texts, log lines, names) cannot move the cursor, set a title or
write to a clipboard. Control characters but tab and line feed, DEL, C1, bidirectional controls,
the separators U+2028 and U+2029, and halves of surrogate pairs are shown as `\\x1b` or `\\u202e`;
CR LF becomes LF; all that prints stays, whatever the script. `--json` is exact: the values hold
what there is, character by character, written as JSON escapes where it could drive a terminal.
Text is in the encoding of the locale, with `\\xfc` for what that lacks; JSON is UTF-8 always.

Output that cannot be written (stdout is closed, the disk is full) is an error: exit code 1, or
what the command has found if that is worse, and a line on stderr that says what becomes of the
work, such as how to fetch the answer. With stderr closed only the exit code tells.

A call that the system refuses is told with its path, whose it is, and what to do. Exit codes: 4
for no permission and a read-only file system, 2 for what is not there and a full disk, 1 for
others.

On a terminal a table leaves columns out where there is no room for all, the least wanted first, and
cuts only texts; an id always stands whole. A pipe or a file gets all columns.

Times are UTC and end in `Z` or `+00:00`; only those of messages and conversations with `--json`
are as the bridge's tables hold them: UTC without a zone.

`--home` and `--json` may stand before or after the command's name.
"""


def pages(command: click.Command, path: str, parent: click.Context | None) -> Iterator[str]:
    """Yield the help of a command and of those below it."""
    with click.Context(command, parent, path.rsplit(" ", 1)[-1], terminal_width=96) as context:
        lines = command.get_help(context).splitlines()
        yield f"### {path}\n\n```text\n" + "\n".join(line.rstrip() for line in lines) + "\n```\n"
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                child = command.get_command(context, name)
                assert child is not None
                yield from pages(child, f"{path} {name}", context)


def text() -> str:
    """Return the whole page."""
    parts = [HEAD]
    settings = commands.context_settings
    with click.Context(commands, info_name="autopoll", **settings) as context:
        for section, names in COMMANDS.items():
            parts.append(f"## {section}\n")
            for name in names:
                command = commands.get_command(context, name)
                assert command is not None
                parts += pages(command, f"autopoll {name}", context)
    return "\n".join(parts)


def man() -> str:
    """Return the man page, with the exit codes of this one."""
    codes = re.findall(r"^\| (\d+) \| (.*) \|$", HEAD, re.M)
    plain = [(code, text.replace("\\\\|", "|").replace("`", "")) for code, text in codes]
    made: str = runpy.run_path(str(HERE / "man_page.py"))["page"](plain)
    return made


def layers() -> list[list[str]]:
    """Return the rooms of each layer, the uppermost first."""
    settings = configparser.ConfigParser()
    settings.read(HERE.parent / "setup.cfg")
    lines = settings["importlinter:contract:layers"]["layers"].split("\n")
    return [[room.strip() for room in line.split("|")] for line in lines if line.strip()]


def picture() -> str:
    """Return one row of boxes a layer: each imports only what lies below it."""
    rows = []
    for rooms in layers():
        inner = WIDTH - len(rooms) - 1
        widths = [inner // len(rooms) + (place < inner % len(rooms)) for place in range(len(rooms))]
        rows += [
            "┌" + "┬".join("─" * width for width in widths) + "┐",
            "│"
            + "│".join(f"{room:^{width}}" for room, width in zip(rooms, widths, strict=True))
            + "│",
            "└" + "┴".join("─" * width for width in widths) + "┘",
        ]
    return "\n".join(rows)


def architecture() -> str:
    """Return docs/architecture.md with the picture as the contract is now."""
    page = (HERE / "architecture.md").read_text(encoding="utf-8")
    return ROOMS.sub(lambda _: picture(), page)


if __name__ == "__main__":
    (HERE / "cli.md").write_text(text(), encoding="utf-8")
    (HERE / "autopoll.1").write_text(man(), encoding="utf-8")
    (HERE / "architecture.md").write_text(architecture(), encoding="utf-8")
