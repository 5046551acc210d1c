"""How long what is over is kept, as it stands in autopoll.toml."""

from pathlib import Path

import pytest

from autopoll.bridge.retention_protocol import Ages, ages_of
from autopoll.errors import ConfigError
from autopoll.home.config import Config, parse
from autopoll.home.home import Home
from autopoll.home.retention_settings import RetentionSection

DAY = 86_400_000


def read(lines: str) -> Config:
    text = f'[shards.main]\nbackend = "echo"\n[retention]\n{lines}\n'
    return parse(Home(Path("/home")), text, {}, {})


def test_each_kind_has_an_age_of_its_own_and_none_of_what_is_kept_forever() -> None:
    kept = read('answered = "12h"\naudit = " forever "\nforeign = "1d"').retention
    assert ages_of(kept) == Ages(answered=DAY // 2, canaries=3_600_000, audit=None, foreign=DAY)


def test_what_other_programs_wrote_is_kept_unless_it_is_asked_for() -> None:
    assert ages_of(RetentionSection()) == Ages(
        answered=90 * DAY, canaries=3_600_000, audit=90 * DAY, foreign=None
    )


@pytest.mark.parametrize("value", ["90", '"90"', '"0d"', '"-1d"', "true", '"never"', '""', "[]"])
def test_what_is_no_age_is_refused_with_the_key_and_what_may_be_written(value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(f"answered = {value}")
    assert "retention.answered" in str(refused.value)
    assert "90d, or as forever" in str(refused.value)


def test_an_unknown_key_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError) as refused:
        read('answers = "1d"')
    assert "answers" in refused.value.what
    assert "answered, canaries, audit, incidents, logs, foreign" in refused.value.mend
