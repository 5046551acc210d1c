"""Homes whose backend is a model behind an API: killed in mid-stream, limited, without a key."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mock_api import MockApi
from moods import shard
from place import Place, answers_to, until

pytestmark = pytest.mark.early

PATHS = {"anthropic": "", "openai": "/v1"}
KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
KEY = "mock-key-of-no-known-form-0123456789"
LONG = "Tell me all about the lighthouse, in as many words as you can find, please"


@pytest.fixture
def api() -> Iterator[MockApi]:
    with MockApi() as api:
        yield api


@pytest.fixture(params=sorted(PATHS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def home_of(new_place: Callable[..., Place], name: str, api: MockApi, more: str = "") -> Place:
    place: Place = new_place(f"""
[shards.main]
backend = "{name}"
context = ["docs"]
[shards.main.options]
model = "mock"
base_url = "{api.url}{PATHS[name]}"
{more}
""")
    for variable in list(place.environ):
        if variable.startswith(("ANTHROPIC_", "OPENAI_")):
            del place.environ[variable]
    (place.root / "docs").mkdir()
    (place.root / "docs" / "a.md").write_text("The lighthouse is red.\n")
    return place


@pytest.fixture(scope="module", params=sorted(PATHS))
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Place, MockApi]]:
    """A home of each kind that is up, and its service."""
    with MockApi() as api:
        folder = tmp_path_factory.mktemp("model") / "home"
        with home_of(lambda text: Place(folder, text), request.param, api).running() as place:
            yield place, api


@pytest.mark.long
def test_a_question_is_answered_once_when_the_worker_is_killed_in_the_middle_of_the_stream(
    running,
) -> None:
    place, api = running
    api.requests.clear()
    api.mood = "pause=300"
    asking = place.start_ask(LONG)
    until(lambda: api.asked, what="the question to reach the service")
    place.busy("worker")
    place.kill("worker")
    api.mood = ""
    out, err = asking.communicate(timeout=60)
    answer = json.loads(out)
    assert answer["answer"].startswith(f"You asked: {LONG}"), err
    assert answer["sources"] == ["docs/a.md:1-1"]
    assert answer["attempts"] == 2
    assert len(api.asked) == 2
    bridge = place.bridge()
    try:
        answers = answers_to(bridge.messages.find(limit=1000))
    finally:
        bridge.close()
    assert answers.count(answer["id"]) == 1


def test_a_rate_limit_pauses_the_shard_for_the_time_it_names_and_costs_no_attempt(
    running,
) -> None:
    place, api = running
    api.mood = "429=2"
    asking = place.start_ask("How long?")
    words = until(lambda: shard(place)["paused"], what="the pause")
    assert words.startswith("rate-limit until ")
    api.mood = ""
    out, err = asking.communicate(timeout=60)
    assert json.loads(out)["attempts"] == 1, err


@pytest.mark.long
def test_a_wrong_key_pauses_the_shard_until_it_is_mended_and_is_shown_nowhere(
    new_place, name, api
) -> None:
    api.key = "another"
    place = home_of(new_place, name, api)
    place.environ[KEYS[name]] = KEY
    place.run("up")
    words = until(lambda: shard(place)["paused"], what="the pause")
    assert words.startswith("credentials until ")
    told = [place.run(*command.split(), code=None) for command in COMMANDS]
    assert not api.asked, "nothing was paid for"

    shown = {f"autopoll {done.args[3:]}": done.stdout + done.stderr for done in told}
    shown.update(files_below(place.root))
    for process in place.processes():
        shown[f"argv of {process.pid}"] = " ".join(process.cmdline())
    assert [where for where, text in shown.items() if KEY in text] == []
    assert any("credentials" in text for text in shown.values())

    api.key = KEY
    place.run("restart", "worker")
    assert place.ask("Who am I?")["answer"].startswith("You asked: Who am I?")


COMMANDS = (
    "status",
    "status --json",
    "health --deep",
    "incidents --json",
    "logs worker",
    "ask anybody? --timeout 500ms",
)


def files_below(root: Path) -> dict[str, str]:
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_file():
                found[str(path)] = path.read_bytes().decode("utf-8", "replace")
    return found


@pytest.mark.long
def test_a_key_file_that_others_may_read_is_refused_before_anything_is_started(
    new_place, api
) -> None:
    place = home_of(new_place, "openai", api, 'key_file = "key"')
    path = place.root / "key"
    path.write_text(KEY)
    path.chmod(0o644)
    told = place.run("up", code=4).stderr
    assert "shards.main.options.key_file" in told
    assert f"chmod 600 '{path}'" in told
    assert KEY not in told
    assert not place.processes()
    path.chmod(0o600)
    api.key = KEY
    place.run("up")
    assert place.ask("Who am I?")["answer"].startswith("You asked: Who am I?")
