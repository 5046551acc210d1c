"""Every command has a schema of what `--json` prints, and is run against it."""

from collections.abc import Iterator

import click
import json_schemas
import pytest
from jsonschema import Draft202012Validator

from autopoll.cli import commands


def paths(command: click.Command, context: click.Context, path: str = "") -> Iterator[str]:
    """Yield all commands that do something by themselves."""
    if not isinstance(command, click.Group):
        yield path
        return
    if command.invoke_without_command:
        yield path
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child
        yield from paths(child, click.Context(child, context, name), f"{path} {name}".strip())


EVERY = sorted(paths(commands, click.Context(commands, info_name="autopoll")))


@pytest.mark.parametrize("path", EVERY)
def test_every_command_has_a_schema_and_is_run_against_it(path: str) -> None:
    if path in json_schemas.WITHOUT_JSON:
        return
    assert path in json_schemas.SCHEMAS, f"add what `{path} --json` prints to json_schemas.py"
    is_run = any(f"{line} ".startswith(f"{path} ") for line in json_schemas.RUNS)
    assert is_run or path in json_schemas.APART, f"add a line that runs `{path}` to RUNS"


def test_there_is_no_schema_of_a_command_that_is_not_there() -> None:
    assert set(json_schemas.SCHEMAS) <= set(EVERY)
    assert set(EVERY) >= json_schemas.WITHOUT_JSON
    for schema in json_schemas.SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


def test_a_field_that_goes_or_changes_its_type_is_found() -> None:
    status = Draft202012Validator(json_schemas.SCHEMAS["dead drop"])
    assert status.is_valid({"id": 1, "dropped": True, "more": None})
    assert not status.is_valid({"id": 1})
    assert not status.is_valid({"id": "1", "dropped": True})
