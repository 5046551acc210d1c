"""docs/backends.md against the options of the backends, and its examples against the contract."""

import asyncio
import re
import sys
from pathlib import Path

import msgspec
import pytest

from autopoll.backends.command import Command, CommandOptions
from autopoll.backends.contract import Setting
from autopoll.backends.echo import EchoOptions
from autopoll.backends.extract import ExtractOptions
from autopoll.request import Request

DOCUMENT = (Path(__file__).parents[2] / "docs" / "backends.md").read_text()
OPTIONS = {"extract": ExtractOptions, "command": CommandOptions, "echo": EchoOptions}
QUESTION = Request(
    delivery=1, fence=1, attempt=1, timeout_ms=5000, conversation="c", question="hello"
)


def example(words: str) -> str:
    """Return the Python example of the document that holds these words."""
    [code] = [code for code in re.findall(r"```python\n(.*?)```", DOCUMENT, re.S) if words in code]
    return str(code)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_document_names_every_option_with_its_default(name: str) -> None:
    [section] = re.findall(rf"^## {name}$(.*?)(?=^## |\Z)", DOCUMENT, re.M | re.S)
    documented = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.M))
    fields = msgspec.structs.fields(OPTIONS[name])
    assert list(documented) == [field.name for field in fields]
    for field in fields:
        if isinstance(field.default, bool | int) and not isinstance(field.default, float):
            assert documented[field.name] == f"`{str(field.default).lower()}`"


def test_the_example_of_a_program_answers(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(example("You asked"))
    options = {"command": [sys.executable, str(program)], "ready": True}

    async def scene() -> None:
        backend = Command(Setting(shard="main", root=tmp_path, context=[], options=options))
        await backend.start()
        reply = await backend.answer(QUESTION, print)
        assert reply.answer.text == "You asked: hello"
        await backend.stop()

    asyncio.run(scene())


def test_the_example_of_a_backend_answers(tmp_path: Path) -> None:
    names: dict[str, type] = {}
    exec(compile(example("class Shout"), "shout.py", "exec"), names)

    async def scene() -> None:
        setting = Setting(shard="main", root=tmp_path, context=[], options={"mark": "?"})
        backend = names["Shout"](setting)
        await backend.start()
        assert (await backend.answer(QUESTION, print)).answer.text == "HELLO?"
        await backend.stop()

    asyncio.run(scene())
