"""What a word on the command line may become; asked by the shell whenever somebody presses Tab.

Nothing is started, changed or said, whatever is missing or broken: there are no completions then.
Only what a shell takes as one plain word is offered, as others may have named it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from typing import TYPE_CHECKING

import click

from autopoll.errors import AutopollError, NotFound

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from autopoll.bridge.protocols import Bridge
    from autopoll.home.home import Home

NEWEST = 100  # messages that are looked at
_WORD = r"[\w.@+-]+"
_HELP = 60  # characters

Words = Iterable[tuple[str, str]]  # each with what it stands for, or ""
Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem[str]]"]


def _completing(words: "Callable[[Home], Words]") -> Complete:
    """Make a function of a home one that completes a parameter."""

    @wraps(words)
    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> "list[CompletionItem[str]]":
        from click.shell_completion import CompletionItem

        from autopoll.cli.base_command import CommandLine
        from autopoll.home.find_home import find

        before, comma, begun = incomplete.rpartition(",")
        cli = ctx.find_object(CommandLine)
        given = (ctx.params.get(param.name or "") or ()) if param.nargs == -1 else ()
        try:
            found = list(words(find(cli.home_name if cli else None)))
        except (AutopollError, OSError):
            return []
        plain = ((word, text) for word, text in found if re.fullmatch(_WORD, word, re.ASCII))
        return [
            CompletionItem(before + comma + word, help=_harmless(text) or None)
            for word, text in plain
            if word.startswith(begun) and word not in map(str, given)
        ]

    return complete


def _harmless(text: str) -> str:
    """Return a short line that neither ends early nor moves anything."""
    shown = " ".join(text[: 4 * _HELP].split())[:_HELP]
    return "".join(char if char.isprintable() and char != "," else " " for char in shown)


@_completing
def shards(home: "Home") -> Words:
    """Return the shards of the settings."""
    from autopoll.home.config import load

    return [(name, section.backend) for name, section in load(home).shards.items()]


@_completing
def processes(home: "Home") -> Words:
    """Return all processes that there should be, or are."""
    return [(name, "") for name in _process_names(home)]


@_completing
def logged(home: "Home") -> Words:
    """Return all processes that have, or will have, a log."""
    files = sorted(path.stem for path in home.log.glob("*.log"))
    return [(name, "") for name in dict.fromkeys([*_process_names(home), *files])]


@_completing
def conversations(home: "Home") -> Words:
    """Return the home's own conversations, those that shards serve, and those last written to."""
    from autopoll.home import credentials

    kept = credentials.read(home)
    found = {conversation: f"with shard {shard}" for shard, conversation in kept.shards.items()}
    found |= {name: "" for name in kept.tokens if name not in found}
    with _bridge(home) as bridge:
        if bridge is not None:
            for (conversation, _), shard in bridge.conversations.routes().items():
                found.setdefault(conversation, f"with shard {shard}")
            for message in reversed(bridge.messages.find(limit=NEWEST)):
                found.setdefault(message.conversation, "")
    return found.items()


@_completing
def questions(home: "Home") -> Iterator[tuple[str, str]]:
    """Return the newest questions, the newest first."""
    from autopoll.message import is_answerable, read_content, read_envelope

    with _bridge(home) as bridge:
        for message in reversed(bridge.messages.find(limit=NEWEST) if bridge else []):
            if is_answerable(message.text, read_envelope(message.metadata)):
                yield str(message.id), read_content(message.text, message.metadata).text


@_completing
def dead_letters(home: "Home") -> Iterator[tuple[str, str]]:
    """Return the dead letters."""
    from autopoll.message import read_content

    with _bridge(home) as bridge:
        for letter in bridge.overview.dead_letters(text_bytes=1024) if bridge else []:
            yield str(letter.message_id), read_content(letter.text).text


@_completing
def waiting(home: "Home") -> Iterator[tuple[str, str]]:
    """Return the questions that have no answer yet, the oldest first."""
    with _bridge(home) as bridge:
        if bridge is not None:
            for each in bridge.overview.queue(shard=None, after=0, limit=NEWEST).questions:
                yield str(each.id), f"{each.state}, shard {each.shard}"


def files(
    _ctx: click.Context, _param: click.Parameter, incomplete: str
) -> "list[CompletionItem[str]]":
    """Have the shell complete a file."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def nothing(
    _ctx: click.Context, _param: click.Parameter, _incomplete: str
) -> "list[CompletionItem[str]]":
    """Offer nothing, where a name is new or a text is anybody's."""
    return []


def _process_names(home: "Home") -> list[str]:
    from autopoll.home.config import load

    config = load(home)
    names = ["poller", "watchdog", *config.instances()]
    names += ["gateway"] if config.gateway.enabled else []
    beats = sorted(path.name for path in home.beats.glob("*")) if home.beats.is_dir() else []
    return list(dict.fromkeys([*names, *beats]))


@contextmanager
def _bridge(home: "Home") -> "Iterator[Bridge | None]":
    """Lend the bridge, None where a server would have to be reached for it."""
    from autopoll.bridge.connect import connect
    from autopoll.home.config import load

    config = load(home)
    if config.bridge.url.is_server:
        yield None
        return
    if not (home.var.is_dir() and config.bridge.url.file(home.root)):
        raise NotFound("there is no bridge")
    with closing(connect(home, config, read_only=True)) as bridge:
        yield bridge
