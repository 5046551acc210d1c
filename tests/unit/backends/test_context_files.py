"""Which files may be read, and how every other one is refused."""

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autopoll.backends.context.context_files import MAX_BYTES, Context
from autopoll.backends.contract import Permanent, Setting
from autopoll.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    docs = tmp_path / "home" / "docs"
    (docs / "deep").mkdir(parents=True)
    (docs / "a.md").write_text("alpha")
    (docs / "deep" / "b.txt").write_text("bravo")
    (tmp_path / "secret.md").write_text("secret")
    (tmp_path / "home" / "beside.md").write_text("beside")
    return tmp_path / "home"


def context(home: Path, *roots: str) -> Context:
    paths = [home / root for root in roots or ("docs",)]
    return Context(Setting(shard="main", root=home, context=paths))


def refusal(home: Path, name: str) -> str:
    with pytest.raises(Permanent) as refused:
        context(home).read(name)
    return refused.value.what


@contextmanager
def as_nobody() -> Iterator[None]:
    """Lay down root's rights, if we have them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_are_listed_through_folders_in_order(home: Path) -> None:
    assert list(context(home).listing().files) == [home / "docs/a.md", home / "docs/deep/b.txt"]


def test_a_root_may_be_a_file_and_roots_may_overlap(home: Path) -> None:
    both = context(home, "docs/deep", "docs", "beside.md")
    assert len(both.listing().files) == 3


def test_hidden_files_symlinks_and_devices_are_not_listed(home: Path) -> None:
    docs = home / "docs"
    (docs / ".git").mkdir()
    (docs / ".git" / "config.md").write_text("x")
    (docs / ".env").write_text("KEY=1")
    (docs / "out.md").symlink_to(home.parent / "secret.md")
    (docs / "up").symlink_to(home.parent)
    (docs / "loop").symlink_to(docs)
    os.mkfifo(docs / "pipe.md")
    assert list(context(home).listing().files) == [docs / "a.md", docs / "deep/b.txt"]


@pytest.mark.parametrize("name", ["a.md", "docs/a.md", "deep/../a.md", "./a.md"])
def test_a_relative_name_is_meant_from_a_root_or_from_home(home: Path, name: str) -> None:
    assert context(home).read(name).text == "alpha"


def test_an_absolute_name_and_a_symlink_to_the_inside_are_read(home: Path) -> None:
    (home / "docs" / "link.md").symlink_to("deep/b.txt")
    assert context(home).read(str(home / "docs/a.md")).text == "alpha"
    source = context(home).read("link.md")
    assert (source.path, source.text) == (home / "docs/deep/b.txt", "bravo")


@pytest.mark.parametrize(
    "name",
    [
        "../secret.md", "docs/../../secret.md", "/etc/passwd", "beside.md", "missing.md", "", " ",
        "a.md\0", "a.md/x", "x" * 300, "\ud800", "/proc/self/environ", "/dev/null", ".", "/",
    ],
)  # fmt: skip
def test_what_is_outside_or_missing_is_refused_in_the_same_words(home: Path, name: str) -> None:
    if name == ".":  # the root itself, which is a folder of ours
        assert "is a folder" in refusal(home, name)
    else:
        assert "is not among this shard's context files" in refusal(home, name)


def test_a_symlink_out_of_the_context_is_refused(home: Path) -> None:
    (home / "docs" / "out.md").symlink_to(home.parent / "secret.md")
    (home / "docs" / "up").symlink_to(home.parent)
    (home / "docs" / "loop.md").symlink_to("loop.md")
    for name in ("out.md", "up/secret.md", "loop.md"):
        assert "not among" in refusal(home, name)


def test_a_folder_whose_name_only_begins_alike_is_outside(home: Path) -> None:
    (home / "docs2").mkdir()
    (home / "docs2" / "x.md").write_text("x")
    assert "not among" in refusal(home, "../docs2/x.md")


def test_hidden_files_are_refused_and_a_hidden_root_is_not(home: Path) -> None:
    (home / "docs" / ".env").write_text("KEY=1")
    (home / ".notes").mkdir()
    (home / ".notes" / "n.md").write_text("note")
    assert "not among" in refusal(home, ".env")
    assert context(home, ".notes").read("n.md").text == "note"


def test_a_folder_is_refused_by_the_name_the_asker_gave(home: Path) -> None:
    assert refusal(home, "docs/deep") == "context file 'docs/deep' is a folder"


def test_a_fifo_is_refused_without_waiting_for_a_writer(home: Path) -> None:
    os.mkfifo(home / "docs" / "pipe.md")
    assert refusal(home, "pipe.md") == "context file 'pipe.md' is not a regular file"


def test_a_large_file_is_refused_with_size_and_limit_and_not_read(home: Path) -> None:
    with (home / "docs" / "large.md").open("wb") as file:
        file.truncate(200 * 1024 * 1024)
    assert refusal(home, "large.md") == (
        "context file 'large.md' has 209,715,200 bytes; the limit is 16,777,216"
    )


def test_a_file_of_just_the_limit_is_read(home: Path) -> None:
    (home / "docs" / "full.md").write_bytes(b"x" * MAX_BYTES)
    assert len(context(home).read("full.md").text) == MAX_BYTES


def test_a_binary_file_is_refused(home: Path) -> None:
    (home / "docs" / "image.md").write_bytes(b"\x89PNG\0\0")
    assert refusal(home, "image.md") == "context file 'image.md' is binary, not text"


def test_text_in_another_encoding_is_read_with_marks_in_place_of_what_is_unknown(
    home: Path,
) -> None:
    (home / "docs" / "latin.md").write_bytes(b"\xef\xbb\xbfcaf\xe9")
    assert context(home).read("latin.md").text == "caf\N{REPLACEMENT CHARACTER}"


def test_an_unreadable_file_is_refused_with_the_reason() -> None:
    # Not under tmp_path, whose parents nobody may enter.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        root = Path(folder).resolve()
        (root / "closed.md").write_text("closed")
        (root / "closed.md").chmod(0o000)
        readable = Context(Setting(shard="main", root=root, context=[root]))
        with as_nobody(), pytest.raises(Permanent, match=r"'closed.md' cannot be read: Perm"):
            readable.read("closed.md")


def test_a_name_swapped_for_a_symlink_again_and_again_never_leads_outside(home: Path) -> None:
    inside, spare = home / "docs" / "a.md", home / "docs" / "spare.md"
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            spare.symlink_to(home.parent / "secret.md")
            spare.replace(inside)
            spare.write_text("alpha")
            spare.replace(inside)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        readable, seen = context(home), set()
        for _ in range(3000):
            try:
                seen.add(readable.read("a.md").text)
            except Permanent:
                seen.add("refused")
    finally:
        stop.set()
        swapper.join()
    assert "secret" not in seen
    assert seen & {"alpha", ""}


def test_a_context_path_that_does_not_exist_is_named(home: Path) -> None:
    with pytest.raises(ConfigError, match=r"shards.main.context: .*/nowhere does not exist"):
        context(home, "nowhere")


def test_no_descriptor_is_left_open(home: Path) -> None:
    os.mkfifo(home / "docs" / "pipe.md")
    readable = context(home)
    before = len(os.listdir("/proc/self/fd"))
    for name in ("a.md", "pipe.md", "deep", "missing", "/etc/passwd") * 20:
        try:
            readable.read(name)
        except Permanent:
            continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_citations_are_relative_to_home_or_else_to_the_root_s_parent(home: Path) -> None:
    inside = context(home)
    assert inside.cite(home / "docs" / "a.md", 3, 7) == "docs/a.md:3-7"
    elsewhere = Context(Setting(shard="main", root=home / "docs" / "deep", context=[home / "docs"]))
    assert elsewhere.cite(home / "docs" / "a.md", 1, 1) == "docs/a.md:1-1"
