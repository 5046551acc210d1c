"""Libraries of backends that may not be there: said before anything is started, with the mend."""

import pytest

from autopoll.backends.requirements import need
from autopoll.errors import ConfigError


def test_a_library_that_is_there_and_new_enough_is_no_matter() -> None:
    need("main", "msgspec", (0, 1))


def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it() -> None:
    with pytest.raises(ConfigError) as error:
        need("main", "no-such-library", (1,), extra="oracle")
    assert "shard main: the library no-such-library is not installed" in error.value.what
    assert "pip install 'autopoll[oracle]'" in error.value.mend


def test_a_library_that_is_too_old_is_named_with_both_versions() -> None:
    with pytest.raises(ConfigError) as error:
        need("main", "msgspec", (999, 5))
    assert "and 999.5 or newer is needed" in error.value.what
    assert "pip install 'autopoll[msgspec]'" in error.value.mend
