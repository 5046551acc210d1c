"""A home whose context holds files that cannot be read: it comes up, answers, and names them."""

import os
from collections.abc import Iterator

import pytest
from place import Place, until

CONFIG = """
[shards.main]
backend = "extract"
context = ["docs"]
[shards.closed]
backend = "extract"
context = ["closed"]
"""
NAME = r"docs/caf\xe9.md"
DENIED = "cannot be read: Permission denied"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("odd") / "home"
    for name in ("docs", "closed"):
        (root / name).mkdir(parents=True)
        (root / name / "secret.md").write_text("The drawbridge is closed.\n")
        (root / name / "secret.md").chmod(0)
    (root / "docs" / "gate.md").write_text("The gate opens at nine.\n")
    (root / "docs" / os.fsdecode(b"caf\xe9.md")).write_text("The inn has a lamp.\n")
    (root / "docs" / "image.png").write_bytes(b"\x89PNG\0")
    with Place(root, CONFIG).be_ordinary().running() as place:
        yield place


def test_the_rest_answers_and_a_name_that_is_not_utf8_is_cited_in_valid_text(place: Place) -> None:
    assert place.ask("When does the gate open?")["sources"] == ["docs/gate.md:1-1"]
    assert place.ask("Who has a lamp?")["sources"] == [f"{NAME}:1-1"]


def test_they_are_named_by_status_health_and_shards_test(place: Place) -> None:
    status = place.json("status")
    assert status["ready"]
    [main, closed] = [shard["context_remarks"] for shard in status["shards"]]
    assert (main["total"], main["failed"]) == (3, 1)
    reasons = {each["file"]: each["reason"] for each in main["files"]}
    assert reasons["docs/secret.md"] == DENIED
    assert reasons["docs/image.png"] == "is binary, not text"
    assert NAME in reasons
    assert [each["file"] for each in closed["files"]] == ["closed/secret.md"]
    said = place.run("status").stdout
    assert f"main: docs/secret.md {DENIED}" in " ".join(said.split())

    health = place.json("health", code=1)
    assert health["verdict"] == "degraded"
    [check] = [each for each in health["checks"] if each["name"] == "context main"]
    assert not check["ok"]
    assert f"docs/secret.md {DENIED}" in check["detail"] and NAME in check["detail"]

    [trial] = place.json_lines("shards", "test", "main")
    assert trial["ok"] and trial["context"]["files"] == 2
    assert {each["file"] for each in trial["context_remarks"]["files"]} == set(reasons)
    assert f"docs/secret.md {DENIED}" in place.run("shards", "test", "main").stdout


def test_a_shard_with_no_readable_file_says_so_and_does_not_crash(place: Place) -> None:
    answer = place.ask("What is closed?", "--shard", "closed", code=1)
    assert answer["status"] == "error"
    assert (
        f"none of the context files of shard closed can be read: closed/secret.md {DENIED}"
        in (answer["answer"])
    )
    tried = place.run("shards", "test", "closed", code=1).stdout
    assert f"holds no text file: closed/secret.md {DENIED}" in tried
    assert place.beat("worker-closed-1").starts == 1

    (place.root / "closed" / "secret.md").chmod(0o644)
    assert place.ask("What is closed?", "--shard", "closed")["sources"] == ["closed/secret.md:1-1"]
    until(
        lambda: not place.json("status")["shards"][1]["context_remarks"]["total"],
        what="the remark to go",
    )


def test_a_wrong_context_file_is_answered_and_is_no_dead_letter(place: Place) -> None:
    before = place.json("status")["queue"]["dead"]
    answer = place.ask("When?", "--context-file", "gaet.md", code=1)
    assert (answer["status"], answer["attempts"]) == ("error", 1)
    assert "'gaet.md' is not among this shard's context files" in answer["answer"]
    assert place.json("status")["queue"]["dead"] == before
