"""Rows of the bridge as a list, and with --follow each new one as it comes."""

from collections.abc import Callable
from contextlib import closing
from typing import Any, Generic, TypeVar

import msgspec

from autopoll.bridge.connect import connect
from autopoll.bridge.protocols import Bridge
from autopoll.cli.base_command import CommandLine
from autopoll.cli.following import PAGE, Numbered, followed
from autopoll.cli.render import Column, print_json, print_row, print_table

Row = TypeVar("Row", bound=Numbered)


class BridgeListing(msgspec.Struct, Generic[Row], frozen=True, kw_only=True):
    """What rows are looked for, and how one is shown.

    `newest` returns the number up to which no row can come any more; `look` the first so many rows
    beyond a number, or the newest ones beyond 0; `record` what --json prints of a row.
    """

    columns: tuple[Column, ...]
    cells: Callable[[Row], tuple[object, ...]]
    record: Callable[[Row], Any]
    none: str  # the line of an empty list
    newest: Callable[[Bridge], int]
    look: Callable[[Bridge, int, int], list[Row]]


def show(
    cli: CommandLine,
    listing: BridgeListing[Row],
    *,
    conversation: str | None,
    limit: int,
    follow: bool,
) -> None:
    """Print the newest rows, and with `follow` new ones for ever.

    Raises NotFound where there is no such conversation.
    """
    with closing(connect(cli.home, cli.config, read_only=True)) as bridge:
        if conversation is not None:
            bridge.conversations.get(conversation)
        newest = listing.newest(bridge)
        found = listing.look(bridge, 0, limit)
    if not follow:
        _print_list(cli, listing, found)
        return
    for each in found:
        # Of what came meanwhile, some may still be uncommitted below the newest that was found.
        if each.id <= newest:
            _print_one(cli, listing, each)

    def next_page(bridge: Bridge, after: int) -> list[Row]:
        return listing.look(bridge, after, PAGE)

    for each in followed(cli, listing.newest, next_page, newest):
        _print_one(cli, listing, each)


def _print_list(cli: CommandLine, listing: BridgeListing[Row], found: list[Row]) -> None:
    if cli.json:
        for each in found:
            print_json(listing.record(each))
    else:
        print_table(listing.columns, map(listing.cells, found), listing.none)


def _print_one(cli: CommandLine, listing: BridgeListing[Row], row: Row) -> None:
    if cli.json:
        print_json(listing.record(row))
    else:
        print_row(listing.columns, listing.cells(row))
