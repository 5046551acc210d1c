"""Tokens that prove nothing, credentials that others could read, and secrets in wrong places."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from legacy import Legacy
from place import Place

CONFIG = f"""
[delivery]
max_attempts = 2
[shards.main]
backend = "echo"
[shards.leaky]
backend = "command"
[shards.leaky.options]
command = ["{sys.executable}", "{Path(__file__).parents[1] / "data" / "leaky.py"}"]
"""
# Put together here, so that no scanner takes this file for a leak.
_BODY = "aB3" * 12
_HEX = "0123456789abcdef" * 4
SECRETS = [
    "AKIA" + "IOSFODNN7QQAMPLE",
    "ASIA" + "IOSFODNN7QQAMPLF",
    "aws_secret_access_key = " + "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "ghp_" + _BODY,
    "ghs_" + _BODY,
    "github_pat_11ABCDEFG0" + "aB3_" * 15,
    "sk-" + "aB3d" * 12,
    "sk-proj-" + "aB3_-" * 12,
    "sk-ant-api03-" + "aB3_-" * 12,
    "xoxb-1234567890-" + "abcdefghij",
    "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0.sflKxwRJSMeKKF2QT4",
    "postgres://me:" + "pa55wordpa55@db.local/x",
    "Authorization: Bearer " + "abcdefghij0123456789",
    "token=" + _HEX,
    "-----BEGIN RSA PRIVATE " + "KEY-----\nMIIEowIBAAKCAQEAx1\nq7Zt\n-----END RSA PRIVATE KEY-----",
]
LEFT_OVER = "fedcba9876543210" * 4  # a token that was in the environment when all was started
# What must not be seen of each: the longest word.
TELLING = [max(re.split(r"[\s:@=]+|(?<=//)", secret), key=len) for secret in SECRETS]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("access") / "home", CONFIG).be_ordinary()
    (place.root / "secrets.json").write_text(json.dumps(SECRETS))
    try:
        place.environ["AUTOPOLL_TOKEN"] = LEFT_OVER
        place.run("up")
        del place.environ["AUTOPOLL_TOKEN"]
        yield place
    finally:
        place.close()


@pytest.fixture
def talk(place: Place) -> dict:
    """A conversation of its own, with its tokens, answered by the echo."""
    with closing(place.bridge()) as bridge:
        made = bridge.conversations.create("asker", "echo")
        bridge.conversations.serve(made.conversation, "b", "main")
    return {"conversation": made.conversation, "tokens": {"a": made.a, "b": made.b}}


def messages_in(place: Place, talk: dict) -> int:
    with closing(place.bridge()) as bridge:
        return bridge.conversations.get(talk["conversation"]).messages


def speak(
    place: Place, *arguments: str, token: str | bytes | None, by: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command with a token given in one of the ways there are."""
    environ: dict[bytes, bytes] = {
        os.fsencode(name): os.fsencode(value) for name, value in place.environ.items()
    }
    data = token.encode() if isinstance(token, str) else token
    more: list[str] = []
    stdin = b""
    if by == "environment" and data is not None:
        environ[b"AUTOPOLL_TOKEN"] = data
    elif by == "file":
        path = place.root / "token"
        path.write_bytes(data or b"")
        more = ["--token-file", str(path)]
    elif by == "stdin":
        more, stdin = ["--token-file", "-"], data or b""
    done = subprocess.run(
        [*place.command, *arguments, *more], cwd=place.root, env=environ, input=stdin,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr and b"bug" not in done.stderr
    return done


# --- tokens


@pytest.mark.parametrize("by", ["environment", "file", "stdin"])
def test_the_right_token_sends_and_takes_whichever_way_it_is_given(place, talk, by) -> None:
    sent = speak(place, "send", talk["conversation"], "hello", token=talk["tokens"]["a"], by=by)
    assert sent.returncode == 0, sent.stderr
    place.run("answer", sent.stdout.decode().strip())
    taken = speak(place, "inbox", talk["conversation"], token=talk["tokens"]["a"], by=by)
    assert taken.returncode == 0 and b"hello" in taken.stdout


def expire(place: Place, talk: dict) -> str:
    with closing(Legacy(place.home.var / "bridge.db").db) as db:
        db.execute(
            "UPDATE conversations SET expires_at='2020-01-01T00:00:00' WHERE id=?",
            (talk["conversation"],),
        )
    return talk["tokens"]["a"]


def revoke(place: Place, talk: dict) -> str:
    place.run("conversations", "revoke", talk["conversation"], "a")
    return talk["tokens"]["a"]


def rotate(place: Place, talk: dict) -> str:
    place.run("conversations", "rotate", talk["conversation"], "a")
    return talk["tokens"]["a"]


def hashed(place: Place, talk: dict) -> str:
    """What lies in the database is no token, though a thief may have read it there."""
    with closing(Legacy(place.home.var / "bridge.db").db) as db:
        query = "SELECT session_a_token FROM conversations WHERE id=?"
        return db.execute(query, (talk["conversation"],)).fetchone()[0]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda place, talk: "0" * 64, "does not open"),
        (lambda place, talk: talk["tokens"]["a"].upper(), "does not open"),
        (lambda place, talk: talk["tokens"]["a"][:-1], "does not open"),
        (lambda place, talk: talk["tokens"]["a"] + "0", "does not open"),
        (lambda place, talk: "é" * 64, "does not open"),
        (lambda place, talk: "0" * 3000, "does not open"),
        (lambda place, talk: "0" * 100_000, "does not open"),
        (hashed, "does not open"),
        (expire, "has expired"),
        (revoke, "does not open"),
        (rotate, "does not open"),
    ],
    ids=[
        "wrong", "upper case", "cut", "longer", "not ASCII", "long", "very long", "the hash",
        "expired", "revoked", "rotated",
    ],
)  # fmt: skip
def test_a_token_that_proves_nothing_is_refused_and_not_repeated(
    place, talk, spoil: Callable[[Place, dict], str], reason
) -> None:
    token = spoil(place, talk)
    for by, *command in (
        ("environment", "send", talk["conversation"], "hello"),
        ("file", "inbox", talk["conversation"]),
    ):
        refused = speak(place, *command, token=token, by=by)
        said = refused.stderr.decode()
        assert (refused.returncode, refused.stdout) == (4, b""), said
        assert reason in said and "rotating" in said
        assert token[:20] not in said
    assert messages_in(place, talk) == 0
    with closing(Legacy(place.home.var / "bridge.db").db) as db:
        audited = db.execute(
            "SELECT details FROM audit_log WHERE conversation_id=? AND action='access_denied'",
            (talk["conversation"],),
        ).fetchall()
    assert len(audited) == 1 and json.loads(audited[0][0])["count"] == 2


@pytest.mark.parametrize("by", ["environment", "file"])
def test_a_token_that_is_not_text_is_refused(place, talk, by) -> None:
    refused = speak(place, "inbox", talk["conversation"], token=b"\xff" * 64, by=by)
    assert refused.returncode == 4


def test_an_empty_token_file_is_refused_and_an_empty_variable_counts_as_none(place, talk) -> None:
    for by in ("file", "stdin"):
        refused = speak(place, "inbox", talk["conversation"], token="\n", by=by)
        assert refused.returncode == 4 and b"holds no token" in refused.stderr
    refused = speak(place, "inbox", talk["conversation"], token="", by="environment")
    assert refused.returncode == 2 and b"keeps no token" in refused.stderr


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "missing cannot be read: No such file"),
        (".", "cannot be read: Is a directory"),
        ("/dev/zero", "does not open"),
    ],
)
def test_a_token_file_that_is_none_is_refused_after_a_look_at_its_beginning(
    place, talk, name, reason
) -> None:
    refused = place.run("inbox", talk["conversation"], "--token-file", name, code=4, timeout=20)
    assert reason in refused.stderr


def test_the_token_of_the_other_session_is_refused_for_this_one(place, talk) -> None:
    command = ["send", talk["conversation"], "hello", "--session", "b"]
    refused = speak(place, *command, token=talk["tokens"]["a"], by="environment")
    assert refused.returncode == 4
    assert b"proves session a" in refused.stderr


def test_a_session_that_a_shard_serves_is_not_taken_from(place, talk) -> None:
    refused = speak(place, "inbox", talk["conversation"], token=talk["tokens"]["b"], by="file")
    assert refused.returncode == 4
    assert b"is answered by shard main" in refused.stderr


# --- the file of credentials


@pytest.fixture
def credentials(place: Place) -> Iterator[Path]:
    """The file, which is put back afterwards."""
    path = place.home.credentials
    kept = path.read_bytes()
    yield path
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()
    path.write_bytes(kept)
    path.chmod(0o600)


def open_to_others(path: Path) -> None:
    path.chmod(0o644)


def link(path: Path) -> None:
    aside = path.with_name("aside")
    path.rename(aside)
    path.symlink_to(aside)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def foreign(path: Path) -> None:
    if os.geteuid() == 0:
        path.chmod(0o644)
        os.chown(path, 65534, -1)
    else:
        path.chmod(0o640)


def closed(path: Path) -> None:
    path.chmod(0)


def writes(text: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(text)

    return write


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (open_to_others, "is open to others (mode 0644)"),
        (link, "is a symbolic link"),
        (folder, "is not a regular file"),
        (pipe, "is not a regular file"),
        (foreign, "belongs to user" if os.geteuid() == 0 else "is open to others"),
        (closed, "cannot be read: Permission denied"),
        (writes(b""), "is garbled"),
        (writes(b"\x00\xff" * 100), "is garbled"),
        (writes(b'{"tokens": []}'), "is garbled"),
        (writes(b"[" * 100_000), "is garbled"),
        (writes(b'{"version": 99}'), "is of version 99"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_credentials_that_cannot_be_trusted_are_refused_with_the_way_to_mend_it(
    place, credentials, spoil, reason
) -> None:
    tokens = tokens_in(credentials.read_bytes())
    spoil(credentials)
    refused = place.run("ask", "why?", code=4)
    assert reason in refused.stderr
    assert str(credentials) in refused.stderr
    assert not any(token in refused.stderr for token in tokens)


def test_with_garbled_credentials_what_needs_none_works_and_the_rest_names_them(
    place, credentials
) -> None:
    credentials.write_bytes(b"{")
    for command in (["init", "."], ["send", "conv_1", "why?"]):
        assert "is garbled" in place.run(*command, code=4).stderr
    deep = place.json("health", "--deep", code=2)
    assert any("is garbled" in check["detail"] for check in deep["checks"])
    for command in ("status", "messages", "health"):
        place.run(command)


def test_without_credentials_ask_says_so_and_init_makes_them_anew(place, credentials) -> None:
    kept = credentials.read_bytes()
    credentials.unlink()
    refused = place.run("ask", "why?", code=2)
    assert f"{credentials} is lost" in refused.stderr and "autopoll init" in refused.stderr
    place.run("init", ".")
    assert place.ask("why?")["answer"] == "why?"
    credentials.write_bytes(kept)
    assert place.ask("and now?")["answer"] == "and now?"


def tokens_in(content: bytes) -> list[str]:
    return re.findall(r"\b[0-9a-f]{64}\b", content.decode("utf-8", "replace"))


# --- secrets


@pytest.mark.long
def test_no_token_and_no_secret_is_seen_outside_its_place(place, talk) -> None:
    """Everything is done with them that people do, and then everything is searched."""
    tokens = [LEFT_OVER, *talk["tokens"].values()]
    tokens += tokens_in(place.home.credentials.read_bytes())
    seen: list[str] = []

    def run(*arguments: str, **more: object) -> str:
        done = place.run(*arguments, code=None, **more)
        seen.extend((done.stdout, done.stderr))
        return done.stdout

    run("ask", "--lines", "--json", stdin="".join(f"is {s!r} safe?\n" for s in SECRETS))
    plan = [f"{way} {n}" for n in range(len(SECRETS)) for way in ("error", "answer", "progress")]
    plan += [f"{way} {n}" for n in (0, 8) for way in ("garbage", "exit", "retriable")]
    run("ask", "--lines", "--shard", "leaky", stdin="\n".join(plan), timeout=100)
    for by in ("environment", "file"):
        command = ["send", talk["conversation"], "\n".join(SECRETS)]
        assert speak(place, *command, token=talk["tokens"]["a"], by=by).returncode == 0
    run("send", talk["conversation"], "x", "--metadata", json.dumps({"note": SECRETS[3]}))
    taken = speak(place, "inbox", talk["conversation"], token=talk["tokens"]["a"], by="file")
    seen.append(taken.stdout.decode())
    place.kill("worker-leaky-1")
    place.ready("worker-leaky-1")
    for command in (
        "status", "health --deep", "shards list", "conversations list", "messages --limit 1000",
        f"conversations show {talk['conversation']}", "incidents", "dead list", "logs -n 1000",
    ):  # fmt: skip
        run(*command.split())
    run("logs", "-n", "1000", "--json")
    letter = run("dead", "list", "--json").splitlines()[0]
    run("dead", "show", str(json.loads(letter)["message_id"]))

    with closing(Legacy(place.home.var / "bridge.db").db) as db:
        for table in ("audit_log", "messages", "deliveries", "answers", "session_status"):
            seen += [repr(row) for row in db.execute(f"SELECT * FROM {table}")]
    seen += [
        path.read_text("utf-8", "replace") for path in place.home.log.rglob("*") if path.is_file()
    ]
    for process in [psutil.Process(place.supervisord()), *place.processes()]:
        seen += process.cmdline()
        seen += [f"{name}={value}" for name, value in process.environ().items()]
    everything = "\n".join(seen)
    halves = [half for word in TELLING for half in (word[: len(word) // 2], word[len(word) // 2 :])]
    assert [word for word in (*tokens, *TELLING, *halves) if word in everything] == []
    assert everything.count("[redacted:") > 100
