"""Messages that nobody should send: each gets an error that says why, and nothing falls over."""

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from legacy import Legacy
from place import Place, until

CONFIG = """
[shards.main]
backend = "echo"
[shards.docs]
backend = "extract"
context = ["notes"]
"""
TREE = ["poller", "worker", "worker-docs-1"]
MB = 1024 * 1024


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("messages") / "home"
    furnish(root / "notes")
    with Place(root, CONFIG).be_ordinary().running() as place:
        yield place
        said = [path.read_text("utf-8", "replace") for path in place.home.log.glob("*.*")]
        assert not [text for text in said if "Traceback" in text]


def furnish(notes: Path) -> None:
    """Lay out what a context should not hold, beside one good page."""
    notes.mkdir(parents=True)
    (notes / "gate.md").write_text("# The gate\n\nThe gate opens at nine in the morning.\n")
    (notes.parent / "outside.md").write_text("# Outside\n\nThe gate opens never.\n")
    (notes / "link.md").symlink_to(notes.parent / "outside.md")
    (notes / "folder").mkdir()
    (notes / "closed.md").write_text("# Closed\n\nThe gate opens at ten.\n")
    (notes / "closed.md").chmod(0)
    with (notes / "large.md").open("wb") as large:
        large.truncate(200 * MB)
    (notes / "binary.md").write_bytes(b"\x7fELF\0\0gate opens\0" * 100)
    os.mkfifo(notes / "pipe.md")
    (notes / "zero.md").symlink_to("/dev/zero")
    if os.geteuid() == 0:
        os.mknod(notes / "device.md", stat.S_IFCHR | 0o644, os.makedev(1, 5))


@pytest.fixture(scope="module")
def client(place: Place) -> Legacy:
    """A program that knows only the legacy tables."""
    return Legacy(place.home.var / "bridge.db")


@pytest.fixture(autouse=True)
def nothing_falls_over(place: Place, client: Legacy) -> Iterator[None]:
    """Whatever was sent, the same processes go on and answer the next question."""
    before = [place.pid(name) for name in TREE]
    yield
    for shard in ("main", "docs"):
        assert exchange(client, converse(place, client, shard), "The gate?")
    assert [place.pid(name) for name in TREE] == before


@pytest.fixture
def conversation(place: Place, client: Legacy) -> str:
    return converse(place, client, "main")


def converse(place: Place, client: Legacy, shard: str) -> str:
    """Make a conversation with a shard."""
    name = client.converse(f"conv_{os.urandom(8).hex()}")
    with closing(place.bridge()) as bridge:
        bridge.conversations.serve(name, "b", shard)
    return name


@pytest.fixture
def nothing_stored(place: Place) -> Iterator[None]:
    """No message comes or goes."""
    with closing(place.bridge()) as bridge:
        before = bridge.messages.find(limit=100_000)
        yield
        assert bridge.messages.find(limit=100_000) == before


def exchange(client: Legacy, conversation: str, message: str | bytes) -> str:
    """Insert a message the legacy way and return its one answer."""
    insert_raw(client, conversation, message)
    return client.await_answer(conversation)


def insert_raw(
    client: Legacy, conversation: str, message: str | bytes, metadata: str | bytes | None = None
) -> None:
    client.db.execute(
        "INSERT INTO messages (conversation_id, from_session, to_session, message, metadata,"
        " timestamp) VALUES (?, 'a', 'b', CAST(? AS TEXT), CAST(? AS TEXT), '2026-01-01T00:00:00')",
        (conversation, message, metadata),
    )


# --- what is no question


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('{"type": "query", "question": "wh', "looks like JSON but is not"),
        ("{question: 'why?'}", "looks like JSON but is not"),
        ('["why?"]', "a list, not an object"),
        ('{"question": 5}', "question must be a string, not 5"),
        ('{"question": null}', "question must be a string, not null"),
        ('{"question": {"question": "why?"}}', "question must be a string"),
        ('{"type": "query"}', "question must be a string"),
        ('{"type": "command", "question": "why?"}', 'type "command" are not answered'),
        ('{"type": ["query"], "question": "why?"}', "are not answered"),
        ('{"question": "why?", "context_file": 7}', "context_file must be a string, not 7"),
        ('{"question": "  "}', "the question is empty"),
        ("", "the message is empty"),
        (" \n\t ", "the message is empty"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"question": ' + "[" * 500 + "]" * 500 + "}", "question must be a string"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_a_message_that_holds_no_question_is_answered_with_the_reason(
    client, conversation, message, reason
) -> None:
    answer = exchange(client, conversation, message)
    if message.startswith("{"):
        response = json.loads(answer)
        assert response["status"] == "error"
        answer = response["answer"]
    assert reason in answer


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n ", b"\r\n\t"])
def test_json_behind_a_byte_order_mark_or_blanks_is_answered_as_json(
    client, conversation, before
) -> None:
    asked = '{"type": "query", "query_id": "7", "question": "half \\ud83d"}\r\n'
    response = json.loads(exchange(client, conversation, before + asked.encode()))
    mark = "\N{REPLACEMENT CHARACTER}"
    assert (response["query_id"], response["answer"]) == ("7", f"half {mark}")


@pytest.mark.parametrize("text", ["42", '"why?"', "true", "[see the list]", "[" * 100_000])
def test_text_that_only_looks_a_bit_like_json_is_a_question(client, conversation, text) -> None:
    assert exchange(client, conversation, text) == text


def test_json_nested_to_just_the_depth_that_can_be_read_is_answered(client, conversation) -> None:
    depths = range(940, 1010)
    for depth in depths:
        nested = "[" * depth + "]" * depth
        for message in (
            f'{{"question": "why?", "query_id": {nested}}}',
            f'{{"type": {nested}}}',
            f'{{"question": {nested}}}',
        ):
            insert_raw(client, conversation, message)
    answers = take_all(client, conversation, 3 * len(depths))
    assert {json.loads(answer)["type"] for answer in answers} == {"response"}


@pytest.mark.parametrize(
    "metadata",
    [
        "{", "[]", "7", '"x"', "", '{"type": 5}', '{"lane": []}', '{"canary": "yes"}',
        '{"canary": 5}', "[" * 60_000, '{"x":' * 10_000, b"\xff\xfe", '{"lane": "\\ud800"}',
        '{"waiter": "w-\\u0000"}', '{"waiter": "../../../gone"}',
    ],
    ids=lambda value: repr(value[:24]),
)  # fmt: skip
def test_metadata_that_nobody_can_read_does_not_keep_a_message_from_its_answer(
    client, conversation, metadata
) -> None:
    insert_raw(client, conversation, "why?", metadata)
    assert client.await_answer(conversation) == "why?"


def take_all(client: Legacy, conversation: str, count: int) -> list[str]:
    answers: list[str] = []

    def complete() -> bool:
        answers.extend(text for _, text in client.take(conversation, "a"))
        return len(answers) >= count

    until(complete, 30, f"{count} answers")
    assert len(answers) == count
    return answers


# --- too large


@pytest.mark.parametrize("command", ["ask -", "ask --lines", "send CONVERSATION -"])
def test_a_message_of_20_mb_is_refused_before_it_is_stored(place, nothing_stored, command) -> None:
    with closing(place.bridge()) as bridge:
        command = command.replace("CONVERSATION", bridge.conversations.all()[0].id)
    refused = place.run(*command.split(), code=4, stdin="x" * 20 * MB)
    assert "longer than 8,388,608 bytes" in refused.stderr
    assert "max_message" in refused.stderr


@pytest.mark.parametrize("form", ["x{}", '{{"type":"query","query_id":7,"question":"{}"}}', "{{{}"])
def test_a_message_of_20_mb_that_a_legacy_program_stored_is_answered_with_an_error_in_little_memory(
    place, client, conversation, form
) -> None:
    poller = place.pid("poller")
    before = peak_memory(poller, reset=True)
    answer = exchange(client, conversation, form.format("y" * 20 * MB))
    assert "larger than 8388608 bytes" in answer
    if form.startswith("{{") and form.endswith("}}"):
        assert json.loads(answer)["query_id"] == 7
    assert peak_memory(poller) - before < 120 * MB
    assert psutil.Process(poller).memory_info().rss - before < 60 * MB


def peak_memory(pid: int, *, reset: bool = False) -> int:
    """Return the highest resident size since the last reset, in bytes."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


# --- characters

WIDE = "𝄞 🙂 漢字 é \N{RIGHT-TO-LEFT OVERRIDE}"


def test_characters_of_four_bytes_survive_the_round_trip(place, client, conversation) -> None:
    assert place.ask(WIDE)["answer"] == WIDE
    assert place.ask("-", stdin=WIDE)["answer"] == WIDE
    assert exchange(client, conversation, WIDE) == WIDE
    answer = exchange(client, conversation, json.dumps({"question": WIDE, "query_id": WIDE}))
    assert json.loads(answer)["answer"] == WIDE
    assert json.loads(answer)["query_id"] == WIDE


@pytest.mark.parametrize(
    ("message", "seen"),
    [
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        (b"a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        (b"a\xed\xa0\x80b", "a\N{REPLACEMENT CHARACTER}"),
        (b"a\xff\xfeb", "a\N{REPLACEMENT CHARACTER}"),
        (b"\xf0\x9f\x99", "\N{REPLACEMENT CHARACTER}"),
        ('{"question": "a\\ud800b"}', "a\N{REPLACEMENT CHARACTER}b"),
        ('{"question": "a\\u0000b"}', "a\N{REPLACEMENT CHARACTER}b"),
        ('{"question": "why?", "query_id": "\\ud800"}', "why?"),
    ],
)
def test_what_is_no_text_is_answered_with_marks_in_its_place(
    client, conversation, message, seen
) -> None:
    answer = exchange(client, conversation, message)
    if answer.startswith("{"):
        answer = json.loads(answer)["answer"]
    assert answer.startswith(seen)
    answer.encode()


@pytest.mark.parametrize(
    ("arguments", "stdin", "reason"),
    [
        (["ask", b"why \xff?"], None, "argument 2 is not UTF-8"),
        (["ask", b"\xed\xa0\x80"], None, "argument 2 is not UTF-8"),
        (["send", "conv_1", b"why \xff?"], None, "argument 3 is not UTF-8"),
        (["ask", "-"], b"why \xff?", "stdin is not UTF-8 (byte 4)"),
        (["ask", "-"], b"why\0?", "NUL"),
        (["ask", "-"], b"", "the question is empty"),
        (["ask", ""], None, "the question is empty"),
        (["ask", " \n "], None, "the question is empty"),
        (["ask", "--lines"], b"\n \n", "stdin holds no question"),
        (["ask"], None, "there is no question"),
        (["ask", "why?", "--shard", "none"], None, "there is no shard 'none'"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_and_nothing_is_stored(
    place, nothing_stored, arguments, stdin, reason
) -> None:
    done = subprocess.run(
        [*place.command, *arguments], cwd=place.root, env=place.environ, input=stdin or b"",
        capture_output=True, timeout=60,
    )  # fmt: skip
    said = done.stderr.decode()
    assert reason in said
    assert "Traceback" not in said and "bug" not in said
    assert done.returncode in (2, 4)


@pytest.mark.parametrize("text", ["", "   "])
def test_sending_nothing_is_refused(place, nothing_stored, text) -> None:
    with closing(place.bridge()) as bridge:
        conversation = bridge.conversations.all()[0].id
    assert "empty" in place.run("send", conversation, text, code=4).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["send", "conv_none", "why?"],
        ["inbox", "conv_none"],
        ["messages", "--conversation", "conv_none"],
        ["conversations", "show", "conv_none"],
        ["conversations", "rotate", "conv_none", "a"],
        ["conversations", "revoke", "conv_none", "b"],
        ["serve", "conv_none", "--shard", "main"],
        ["serve", "conv_none", "--stop"],
        ["answer", "999999999"],
        ["dead", "show", "999999999"],
        ["dead", "retry", "999999999"],
    ],
    ids=" ".join,
)
def test_what_is_not_there_is_named_with_exit_code_2(place, arguments) -> None:
    refused = place.run(*arguments, code=2)
    assert "conv_none" in refused.stderr or "999999999" in refused.stderr
    as_json = place.run(*arguments, "--json", code=2)
    assert json.loads(as_json.stderr)["error"]
    assert as_json.stdout == ""


def test_a_message_to_a_conversation_that_does_not_exist_harms_nobody(
    place, client, conversation
) -> None:
    insert_raw(client, "conv_none", "why?")
    insert_raw(client, "", "why?")
    assert exchange(client, conversation, "and here?") == "and here?"


# --- context files


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/hostname", "is not among this shard's context files"),
        ("../outside.md", "is not among this shard's context files"),
        ("../../../../../../etc/passwd", "is not among this shard's context files"),
        ("../autopoll.toml", "is not among this shard's context files"),
        ("../var/credentials", "is not among this shard's context files"),
        ("link.md", "is not among this shard's context files"),
        ("missing.md", "is not among this shard's context files"),
        ("gate.md/x", "is not among this shard's context files"),
        ("", "is not among this shard's context files"),
        ("x" * 5000, "is not among this shard's context files"),
        ("zero.md", "is not among this shard's context files"),
        ("folder", "is a folder"),
        ("closed.md", "cannot be read: Permission denied"),
        ("large.md", "has 209,715,200 bytes; the limit is"),
        ("binary.md", "is binary"),
        ("pipe.md", "is not a regular file"),
        *([("device.md", "is not a regular file")] if os.geteuid() == 0 else []),
    ],
    ids=lambda value: value[:30],
)
def test_a_context_file_that_may_not_or_cannot_be_read_is_answered_with_the_reason(
    place, client, name, reason
) -> None:
    question = json.dumps({"question": "When does the gate open?", "context_file": name})
    response = json.loads(exchange(client, converse(place, client, "docs"), question))
    assert response["status"] == "error"
    assert reason in response["answer"]
    assert "ten" not in response["answer"] and "never" not in response["answer"]


def test_the_asker_of_a_bad_context_file_gets_exit_code_1_and_the_reason(place) -> None:
    asking = ["ask", "When?", "--shard", "docs", "--context-file", "../outside.md"]
    refused = place.run(*asking, code=1)
    assert "'../outside.md' is not among this shard's context files" in refused.stderr
    result = place.json(*asking, code=1)
    assert (result["status"], result["sources"]) == ("error", [])


def test_a_context_with_fifos_devices_and_large_files_in_it_is_answered_from_the_rest(
    place,
) -> None:
    for more in ([], ["--context-file", "gate.md"]):
        result = place.ask("When does the gate open?", "--shard", "docs", *more)
        assert result["sources"] == ["notes/gate.md:1-3"]
        assert "nine" in result["answer"]


@pytest.mark.parametrize("name", ["a\0b", "\ud800", {"a": 1}, ["gate.md"], True])
def test_a_context_file_that_is_no_name_is_answered_with_the_reason(place, client, name) -> None:
    question = json.dumps({"question": "When does the gate open?", "context_file": name})
    response = json.loads(exchange(client, converse(place, client, "docs"), question))
    assert response["status"] == "error"
    assert "context" in response["answer"]
