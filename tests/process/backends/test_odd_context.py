"""Context files that cannot be read, or are odd, beside one that is well: the rest answers."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autopoll.backends import open_backend
from autopoll.backends.claude_code.workspace import Workspaces
from autopoll.backends.context import reader
from autopoll.backends.context.context_files import Context
from autopoll.backends.context.prompt import Prompt
from autopoll.backends.contract import Mistaken, NullReport, Permanent, Setting
from autopoll.backends.extract import Extract
from autopoll.home.home import Home
from autopoll.message import Answer
from autopoll.request import Request

NAME = os.fsdecode(b"caf\xe9.md")
Ask = Callable[..., Awaitable[Answer]]


@pytest.fixture
def docs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(reader, "LOOK_AGAIN_S", 0.0)
    with tempfile.TemporaryDirectory() as folder:  # whose parents anybody may enter
        Path(folder).chmod(0o755)
        docs = Path(folder).resolve() / "docs"
        docs.mkdir()
        (docs / "well.md").write_text("The lighthouse is red.\n")
        yield docs


@contextmanager
def as_nobody() -> Iterator[None]:
    """Lay down root's rights, if we have them; for all threads, so that a backend has none too."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def run(docs: Path, scene: Callable[[Extract, Ask], Awaitable[None]]) -> None:
    async def main() -> None:
        backend = open_backend("extract", Setting(shard="main", root=docs.parent, context=[docs]))
        assert isinstance(backend, Extract)

        async def ask(question: str, context_file: str | None = None) -> Answer:
            request = Request(
                delivery=1, fence=1, attempt=1, timeout_ms=5000, conversation="c",
                question=question, context_file=context_file,
            )  # fmt: skip
            return (await backend.answer(request, NullReport())).answer

        await backend.start()
        await scene(backend, ask)
        await backend.stop()

    asyncio.run(main())


def told(backend: Extract) -> dict[str, str]:
    return {each.file: each.reason for each in backend.remarks.files}


def test_a_file_whose_name_is_not_utf8_is_read_cited_in_valid_text_and_found_by_that(
    docs: Path,
) -> None:
    (docs / NAME).write_text("The café opens at noon.\n")

    async def scene(backend: Extract, ask: Ask) -> None:
        answer = await ask("When does the café open?")
        assert answer.sources == [r"docs/caf\xe9.md:1-1"]
        assert (await ask("When does it open?", r"docs/caf\xe9.md")).sources == answer.sources
        assert r"docs/caf\xe9.md" in told(backend)
        assert not backend.remarks.files[0].skipped

    run(docs, scene)


def test_what_is_no_readable_text_is_named_with_its_reason_and_the_rest_answers(
    docs: Path,
) -> None:
    (docs / "image.md").write_bytes(b"\x89PNG\0lighthouse")
    (docs / "half.md").write_bytes(b"\xff\xfea\0b")
    (docs / "huge.md").open("wb").truncate(1 << 40)
    (docs / "nowhere.md").symlink_to("missing")
    (docs / "loop.md").symlink_to("loop.md")
    os.mkfifo(docs / "pipe.md")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(docs / "socket"))
    (docs / "western.md").write_bytes("Le phare a été bâti près du café.\n".encode("cp1252"))
    (docs / "wide.md").write_bytes("\ufeffOne\r\nThe mill grinds corn.\r\n".encode("utf-16-le"))

    async def scene(backend: Extract, ask: Ask) -> None:
        assert (await ask("lighthouse")).sources == ["docs/well.md:1-1"]
        assert "bâti près" in (await ask("phare bâti")).text
        assert (await ask("Who grinds corn?", "wide.md")).sources == ["docs/wide.md:1-2"]
        assert told(backend) == {
            "docs/image.md": "is binary, not text",
            "docs/half.md": "has the byte order mark of UTF-16-LE and is not UTF-16-LE",
            "docs/huge.md": "has 1,099,511,627,776 bytes; the limit is 16,777,216",
            "docs/nowhere.md": "is a symbolic link that leads nowhere",
            "docs/loop.md": "is a symbolic link that leads nowhere",
            "docs/pipe.md": "is a FIFO, not a regular file",
            "docs/socket": "is a socket, not a regular file",
            "docs/western.md": "is read as cp1252, for it is not UTF-8",
            "docs/wide.md": "is read as UTF-16-LE",
        }
        assert not backend.remarks.failed

    run(docs, scene)


def test_a_file_and_a_folder_that_may_not_be_read_are_named_until_they_may(docs: Path) -> None:
    (docs / "closed.md").write_text("The drawbridge is closed.")
    (docs / "closed.md").chmod(0)
    (docs / "shut").mkdir()
    (docs / "shut" / "in.md").write_text("The mill is shut.")
    (docs / "shut").chmod(0)
    (docs / "blind").mkdir()
    (docs / "blind" / "in.md").write_text("The inn is blind.")
    (docs / "blind").chmod(0o444)

    async def scene(backend: Extract, ask: Ask) -> None:
        assert (await ask("lighthouse")).sources == ["docs/well.md:1-1"]
        denied = "cannot be read: Permission denied"
        assert told(backend) == dict.fromkeys(
            ["docs/closed.md", "docs/shut", "docs/blind/in.md"], denied
        )
        assert backend.remarks.failed == 3

    with as_nobody():
        run(docs, scene)

    async def mended(backend: Extract, ask: Ask) -> None:
        for name in ("closed.md", "shut", "blind"):
            (docs / name).chmod(0o755)
        assert (await ask("drawbridge")).sources == ["docs/closed.md:1-1"]
        assert told(backend) == {}

    run(docs, mended)


HOLD = """
import fcntl, signal, sys
signal.signal(signal.SIGIO, lambda *_: None)
with open(sys.argv[1]) as held:
    fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    print(flush=True)
    sys.stdin.read()
"""


def test_a_file_that_another_program_holds_is_not_waited_for_and_read_once_it_is_let_go(
    docs: Path,
) -> None:
    (docs / "held.md").write_text("The inn has nine rooms.")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(docs / "held.md")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin and holder.stdout
    holder.stdout.readline()

    async def scene(backend: Extract, ask: Ask) -> None:
        assert (await ask("lighthouse")).sources == ["docs/well.md:1-1"]
        assert told(backend) == {"docs/held.md": "is held by another program"}
        holder.communicate()
        assert (await ask("How many rooms has the inn?")).sources == ["docs/held.md:1-1"]
        assert told(backend) == {}

    began = time.monotonic()
    run(docs, scene)
    assert time.monotonic() - began < 20  # and not until the kernel takes it away, after 45 s


def test_an_error_of_the_disk_is_told_and_no_file_at_all_is_an_error_answer(docs: Path) -> None:
    """The memory of a process is a file whose first byte cannot be read: EIO."""
    memory = Path(f"/proc/{os.getpid()}/mem")
    setting = Setting(shard="main", root=docs.parent, context=[memory])
    with pytest.raises(Permanent) as refused:
        asyncio.run(prompted(Context(setting)))
    assert "none of the context files of shard main can be read: " in str(refused.value)
    assert "mem cannot be read: Input/output error" in str(refused.value)
    assert not isinstance(refused.value, Mistaken)

    async def scene(backend: Extract, ask: Ask) -> None:
        (docs / "well.md").write_bytes(b"\0")
        with pytest.raises(Permanent, match=r"none of .*: docs/well.md is binary, not text"):
            await ask("lighthouse")
        (docs / "well.md").write_text("The lighthouse is blue.")
        assert "blue" in (await ask("lighthouse")).text

    run(docs, scene)


async def prompted(context: Context) -> None:
    prompt = Prompt(context, "main", window=100_000)
    await prompt.look()
    await prompt.ask("Where?")


def test_a_very_deep_folder_and_one_beyond_the_longest_path_do_not_end_the_shard(
    docs: Path,
) -> None:
    here = os.open(docs, os.O_RDONLY)
    try:
        for name in ["d"] * 1050 + ["long" * 60] * 10:
            os.mkdir(name, dir_fd=here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        with open(os.open("deep.md", os.O_CREAT | os.O_WRONLY, dir_fd=here), "w") as file:
            file.write("Too deep for a name.")

        async def scene(backend: Extract, ask: Ask) -> None:
            assert (await ask("lighthouse")).sources == ["docs/well.md:1-1"]
            assert list(told(backend).values()) == ["cannot be read: File name too long"]

        run(docs, scene)
    finally:
        os.close(here)
        subprocess.run(["rm", "-rf", str(docs / "d")], check=True)


def test_a_prompt_names_such_a_file_in_valid_text_and_its_citation_holds(docs: Path) -> None:
    (docs / NAME).write_text("The café opens at noon.\n")
    setting = Setting(shard="main", root=docs.parent, context=[docs])

    async def scene(budget: int) -> None:
        prompt = Prompt(Context(setting), "main", window=100_000, context_tokens=budget)
        await prompt.look()
        turn = await prompt.ask("When does the café open?")
        assert r"=== docs/caf\xe9.md (1 lines)" in turn.system.encode().decode()
        assert turn.cite(r"At noon [docs/caf\xe9.md:1-1].").sources == [r"docs/caf\xe9.md:1-1"]
        assert [each.file for each in prompt.remarks.files] == [r"docs/caf\xe9.md"]

    asyncio.run(scene(50_000))
    asyncio.run(scene(200))  # by passages


def test_the_folder_of_the_tools_holds_them_under_the_names_they_are_cited_by(docs: Path) -> None:
    (docs / NAME).write_bytes("Ouvert à midi.".encode("cp1252"))
    (docs / r"caf\xe9.md").write_text("of the same name, and later in order")
    (docs / os.fsdecode(b"\xff" * 200)).write_text("its name is too long once it can be shown")
    (docs / "image.png").write_bytes(b"\0")
    context = Context(Setting(shard="main", root=docs.parent, context=[docs]))

    async def scene() -> None:
        workspaces = Workspaces(Home(docs.parent), None, context)
        workspaces.open()
        ground = await workspaces.on("system", 1)
        assert sorted(path.name for path in (ground.files / "docs").iterdir()) == [
            r"caf\xe9.md",
            "well.md",
        ]
        workspaces.close()

    asyncio.run(scene())


def test_two_context_paths_with_files_of_one_name_do_not_end_the_tools(docs: Path) -> None:
    home = docs.parent / "home"
    roots = [docs.parent / "a" / "docs", docs.parent / "b" / "docs"]
    for root in (*roots, home):
        root.mkdir(parents=True)
    (roots[0] / "x.md").write_text("first")
    (roots[0] / "y.md").write_text("a file")
    (roots[1] / "x.md").write_text("second")
    (roots[1] / "y.md").mkdir()
    (roots[1] / "y.md" / "z.md").write_text("below a name that is a file's")
    context = Context(Setting(shard="main", root=home, context=roots))

    async def scene() -> None:
        workspaces = Workspaces(Home(home), None, context)
        workspaces.open()
        ground = await workspaces.on("system", 1)
        assert (ground.files / "docs" / "x.md").read_text() == "first"
        workspaces.close()

    with as_nobody_in(home):
        asyncio.run(scene())


@contextmanager
def as_nobody_in(home: Path) -> Iterator[None]:
    if os.geteuid() == 0:
        os.chown(home, 65534, 65534)
    with as_nobody():
        yield


def test_a_wrong_file_name_is_the_askers_own_mistake(docs: Path) -> None:
    async def scene(backend: Extract, ask: Ask) -> None:
        for name in ("missing.md", "/etc/passwd", r"\xff", "\\x00", "\ud800\\xff"):
            with pytest.raises(Mistaken, match="not among"):
                await ask("lighthouse", name)

    run(docs, scene)
