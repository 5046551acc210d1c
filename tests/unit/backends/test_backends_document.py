"""docs/backends.md against the options of the backends, and its examples against the contract."""

import asyncio
import re
import sys
from pathlib import Path

import msgspec
import pytest

from autopoll.backends import open_backend
from autopoll.backends.anthropic.anthropic_options import AnthropicOptions
from autopoll.backends.child.command import Command, CommandOptions
from autopoll.backends.claude_code.claude_options import ClaudeOptions
from autopoll.backends.contract import Setting
from autopoll.backends.echo import EchoOptions
from autopoll.backends.extract import ExtractOptions
from autopoll.backends.openai.openai_options import OpenAiOptions
from autopoll.home.byte_size import ByteSize
from autopoll.home.config import Config, load
from autopoll.home.home import Home
from autopoll.request import Request

DOCS = Path(__file__).parents[3] / "docs"
DOCUMENT = (DOCS / "backends.md").read_text()
OPTIONS = {"extract": ExtractOptions, "command": CommandOptions, "echo": EchoOptions}
# Each has a page of its own.
PAGES = {
    "anthropic": AnthropicOptions,
    "claude-code": ClaudeOptions,
    "openai": OpenAiOptions,
}
QUESTION = Request(
    delivery=1, fence=1, attempt=1, timeout_ms=5000, conversation="c", question="hello"
)


def example(words: str) -> str:
    """Return the Python example of the document that holds these words."""
    [code] = [code for code in re.findall(r"```python\n(.*?)```", DOCUMENT, re.S) if words in code]
    return str(code)


def section(page: str, heading: str) -> str:
    [found] = re.findall(rf"^## {heading}$(.*?)(?=^## |\Z)", page, re.M | re.S)
    return str(found)


@pytest.mark.parametrize("name", [*OPTIONS, *PAGES])
def test_the_document_names_every_option_with_its_default(name: str) -> None:
    if name in PAGES:
        table = section((DOCS / "backends" / f"{name}.md").read_text(), "Options")
    else:
        table = section(DOCUMENT, name)
    documented = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.M))
    fields = msgspec.structs.fields({**OPTIONS, **PAGES}[name])
    assert list(documented) == [field.name for field in fields]
    for field in fields:
        if isinstance(field.default, bool | int) and not isinstance(
            field.default, float | ByteSize
        ):
            assert documented[field.name] == f"`{str(field.default).lower()}`"


@pytest.mark.parametrize("name", PAGES)
def test_the_examples_of_a_page_are_configurations_whose_backends_can_be_opened(
    name: str, tmp_path: Path
) -> None:
    page = (DOCS / "backends" / f"{name}.md").read_text()
    key = tmp_path / f"{name}.key"
    key.write_text("mock-key-0123456789")
    key.chmod(0o600)
    examples = re.findall(r"```toml\n(.*?)```", page, re.S)
    assert examples
    for text in examples:
        (tmp_path / "autopoll.toml").write_text(text)
        config: Config = load(Home(tmp_path), {})
        used = [each for each in config.shards.items() if each[1].backend == name]
        assert used
        for shard, found in used:
            open_backend(
                name, Setting(shard=shard, root=tmp_path, context=[], options=found.options)
            )


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
