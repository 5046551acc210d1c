"""What claims cost is asked of the engine itself, on a real server."""

from pathlib import Path

import pytest

from bench.postgres import claims


def test_claims_and_settles_are_measured_with_the_pages_that_they_touch(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "url_of", lambda _, options="": f"{database}{options}")
    said: list[str] = []
    found = claims.figures(Path("/nowhere"), 0.0005, said.append)
    stores = ["an empty store", "500 settled", "50 queued in one conversation"]
    assert [(each.section, each.name) for each in found] == [
        (part, store) for store in stores for part in (claims.CLAIM, claims.SETTLE)
    ]
    for each in found:
        statements, pages = (int(word) for word in each.note.split() if word.isdigit())
        assert 1 <= statements < 30
        assert pages > 1
        assert each.p99 and 0 < each.value <= each.p99
    assert len(said) == 2
