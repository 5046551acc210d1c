"""Every process of a home killed or stopped while a model is at a question."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from claude_account import account
from mock_api import MockApi
from place import Place, answers_to, until

pytestmark = [pytest.mark.claude, pytest.mark.long]

PATHS = {"anthropic": "", "claude-code": "", "openai": "/v1"}
TREE = ["poller", "watchdog", "worker"]
QUESTION = "What about the tulip?"


@pytest.fixture
def api() -> Iterator[MockApi]:
    with MockApi() as api:
        yield api


@pytest.fixture(params=sorted(PATHS))
def place(
    request: pytest.FixtureRequest,
    new_place: Callable[..., Place],
    api: MockApi,
    tmp_path: Path,
) -> Place:
    place = new_place(f"""
[shards.main]
backend = "{request.param}"
context = ["notes.md"]
request_timeout = "60s"
[shards.main.options]
model = "haiku"
base_url = "{api.url}{PATHS[request.param]}"
""")
    (place.root / "notes.md").write_text("# Hues\n\nThe tulip is yellow.\n")
    place.environ.update(account(tmp_path, api.url))
    return place


@pytest.mark.parametrize("role", TREE)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_model_answers_once_when_a_process_is_struck_in_the_middle_of_it(
    place, api, role, number
) -> None:
    place.run("up")
    api.mood = "delay=3000"
    asking = place.start_ask(QUESTION)
    until(lambda: api.asked, 60, "the question to reach the service")
    place.busy("worker")
    place.kill(role, number)
    api.mood = ""
    out, err = asking.communicate(timeout=90)
    assert json.loads(out)["answer"].startswith(f"You asked: {QUESTION}"), err
    place.ready(*TREE)
    bridge = place.bridge()
    try:
        assert len(answers_to(bridge.messages.find(limit=1000))) == 1
    finally:
        bridge.close()
