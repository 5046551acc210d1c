"""The canary of a home in which nobody answers."""

from contextlib import closing
from pathlib import Path

import pytest

from autopoll.bridge.connect import connect
from autopoll.home.config import Config, ShardSection
from autopoll.home.home import Home
from autopoll.ops import health
from autopoll.ops.init import prepare

CONFIG = Config(shards={"main": ShardSection(backend="echo")})


def test_a_canary_that_nobody_answers_is_taken_back_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "CANARY_S", 0.2)
    home = Home(tmp_path)
    home.supervisord_conf.parent.mkdir()
    home.supervisord_conf.write_text("[unix_http_server]\nfile=/nonexistent/supervisor.sock\n")
    prepare(home, CONFIG)
    with closing(connect(home, CONFIG)) as bridge:
        before = bridge.conversations.all()
    [check] = health._canaries(home, CONFIG, ["main"])
    assert not check.ok
    with closing(connect(home, CONFIG)) as bridge:
        assert bridge.messages.find() == []
        assert set(bridge.overview.counts().values()) == {0}
        assert bridge.overview.dead_letters() == []
        assert bridge.conversations.all() == before
