"""autopoll.toml: what is wrong is named with its file, its key, and what is allowed."""

from pathlib import Path

import pytest

from autopoll.errors import ConfigError
from autopoll.home.config import Config, ShardSection, context_paths, load
from autopoll.home.home import Home

MAIN = '[shards.main]\nbackend = "echo"\n'


def read(folder: Path, text: str | bytes, **environ: str) -> Config:
    (folder / "autopoll.toml").write_bytes(text.encode() if isinstance(text, str) else text)
    return load(Home(folder), environ)


def error(folder: Path, text: str | bytes, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text, **environ)
    assert str(folder / "autopoll.toml") in str(caught.value)
    return str(caught.value)


def test_the_smallest_file_is_complete(tmp_path: Path) -> None:
    config = read(tmp_path, MAIN)
    assert config.shards["main"].instances == 1
    assert config.delivery.visibility_timeout == 60
    assert config.instances() == {"worker": "main"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MAIN + "instances = 2\ninstanses = 3\n", ["shards.main", "instanses", "instances"]),
        (MAIN + "[delivery]\nmax_attemps = 3\n", ["delivery", "max_attemps", "max_attempts"]),
        (MAIN + "[brigde]\nurl = 1\n", ["brigde", "bridge", "delivery"]),
    ],
)
def test_a_misspelt_key_is_named_with_those_that_are_allowed(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    told = error(tmp_path, text)
    assert all(word in told for word in words), told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MAIN + 'instances = "2"\n', ["shards.main.instances", "int", "str"]),
        (MAIN + "instances = true\n", ["shards.main.instances", "int", "bool"]),
        (MAIN + 'context = "README.md"\n', ["shards.main.context", "array"]),
        (MAIN + "context = [1]\n", ["shards.main.context", "str"]),
        ("[shards.main]\nbackend = 7\n", ["shards.main.backend", "str"]),
        ("[shards.main]\n", ["shards.main", "backend"]),
        ("[shards]\nmain = 1\n", ["shards.main"]),
        ("shards = []\n", ["shards"]),
        ("delivery = 1\n" + MAIN, ["delivery"]),
        (MAIN + "[access]\nrate_per_second = 'fast'\n", ["access.rate_per_second", "float"]),
        ("", ["shards"]),
        ("[shards]\n", ["shards"]),
    ],
)
def test_a_wrong_type_is_named_with_its_key(tmp_path: Path, text: str, words: list[str]) -> None:
    told = error(tmp_path, text)
    assert all(word in told for word in words), told


@pytest.mark.parametrize(
    "value", ['"60"', '"-1s"', '"0s"', '"1 week"', '""', "60", "1.5", '"1e3s"', '"nans"', '"٣s"']
)
def test_what_is_no_duration_is_refused_with_the_way_to_write_one(
    tmp_path: Path, value: str
) -> None:
    told = error(tmp_path, MAIN + f"request_timeout = {value}\n")
    assert "shards.main.request_timeout" in told
    assert "500ms" in told


@pytest.mark.parametrize(
    "value", ['"512"', '"-1GB"', '"0MB"', '"1 mb"', '""', "1000000000", '"9999999999GB"']
)
def test_what_is_no_size_is_refused_with_the_way_to_write_one(tmp_path: Path, value: str) -> None:
    told = error(tmp_path, MAIN + f"max_memory = {value}\n")
    assert "shards.main.max_memory" in told
    assert "512MB" in told


def test_an_instance_is_renewed_for_no_reason_unless_one_is_given(tmp_path: Path) -> None:
    plain = read(tmp_path, MAIN).shards["main"]
    assert (plain.max_memory, plain.max_age, plain.max_requests) == (None, None, None)
    told = MAIN + 'max_memory = "1.5 GiB"\nmax_age = "1d"\nmax_requests = 1000\n'
    shard = read(tmp_path, told).shards["main"]
    assert (shard.max_memory, shard.max_age, shard.max_requests) == (1536 * 2**20, 86400, 1000)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (MAIN + "instances = 0\n", "shards.main.instances"),
        (MAIN + "instances = 65\n", "shards.main.instances"),
        (MAIN + "[delivery]\nmax_attempts = 0\n", "delivery.max_attempts"),
        (MAIN + "[delivery]\nmax_message = 10\n", "delivery.max_message"),
        (MAIN + 'max_memory = "63MB"\n', "shards.main.max_memory"),
        (MAIN + 'max_age = "4s"\n', "shards.main.max_age"),
        (MAIN + "max_requests = 0\n", "shards.main.max_requests"),
        (MAIN + "daily_tokens = 0\n", "shards.main.daily_tokens"),
        (MAIN + "daily_cost = 0\n", "shards.main.daily_cost"),
        (MAIN + "daily_cost = nan\n", "shards.main.daily_cost"),
        (MAIN + "daily_cost = inf\n", "shards.main.daily_cost"),
        (MAIN + 'progress_timeout = "500ms"\n', "shards.main.progress_timeout"),
        (MAIN + 'progress_timeout = "120s"\n', "shards.main.progress_timeout"),
        (MAIN + '[gateway]\nmax_body = "100MB"\n', "gateway.max_body"),
        (MAIN + "[gateway]\nmax_connections = 0\n", "gateway.max_connections"),
        (MAIN + '[gateway]\nmax_wait = "2h"\n', "gateway.max_wait"),
        (MAIN + '[gateway]\nclient_timeout = "1ms"\n', "gateway.client_timeout"),
        (MAIN + '[delivery]\nvisibility_timeout = "2h"\n', "delivery.visibility_timeout"),
        (MAIN + '[delivery]\ndrain_timeout = "1m"\n', "delivery.drain_timeout"),
    ],
)
def test_an_impossible_value_is_refused_with_what_is_allowed(
    tmp_path: Path, text: str, key: str
) -> None:
    told = error(tmp_path, text)
    assert key in told
    assert "Allowed:" in told


@pytest.mark.parametrize(
    ("text", "key", "mend"),
    [
        ('listen = "0.0.0.0:80"', "gateway.listen", "allow_remote = true"),
        ('listen = "[::]:80"', "gateway.listen", "autopoll gateway token"),
        ('listen = "example.org:80"', "gateway.listen", "127.0.0.1:8765"),
        ('listen = "unix:"', "gateway.listen", "unix:var/run/gateway.sock"),
        ('allowed_hosts = ["a b"]', "gateway.allowed_hosts", "without a port"),
        ('allowed_hosts = ["*"]', "gateway.allowed_hosts", "without a port"),
        ('allowed_origins = ["*"]', "gateway.allowed_origins", "https://app.example.org"),
        ('allowed_origins = ["null"]', "gateway.allowed_origins", "https://app.example.org"),
    ],
)
def test_a_gateway_that_would_be_open_to_all_is_refused_with_what_to_do(
    tmp_path: Path, text: str, key: str, mend: str
) -> None:
    told = error(tmp_path, MAIN + f"[gateway]\n{text}\n")
    assert key in told
    assert mend in told


@pytest.mark.parametrize("name", ["Main", "a b", "../x", "ä", "-a", "a" * 33, ""])
def test_a_shard_name_that_cannot_be_a_file_name_is_refused(tmp_path: Path, name: str) -> None:
    assert "shard name" in error(tmp_path, MAIN + f'[shards."{name}"]\nbackend = "echo"\n')


@pytest.mark.parametrize("text", ["[shards", "a = ", b"\xff\xfe", b"a = \x00"])
def test_what_is_not_toml_is_refused_with_the_place(tmp_path: Path, text: str | bytes) -> None:
    assert "TOML" in error(tmp_path, text)


def test_the_mark_that_editors_of_windows_put_first_is_passed_over(tmp_path: Path) -> None:
    text = "\ufeff" + MAIN.replace("\n", "\r\n")
    assert list(read(tmp_path, text).shards) == ["main"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "autopoll.toml").mkdir()
    with pytest.raises(ConfigError, match=r"autopoll\.toml cannot be read"):
        load(Home(tmp_path), {})


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        MAIN,
        AUTOPOLL_SHARDS__MAIN__INSTANCES="3",
        AUTOPOLL_DELIVERY__VISIBILITY_TIMEOUT="2m",
        AUTOPOLL_ACCESS__REDACT="false",
        AUTOPOLL_HOME="/nowhere",
    )
    assert config.shards["main"].instances == 3
    assert config.delivery.visibility_timeout == 120
    assert config.access.redact is False


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AUTOPOLL_SHARDS__MAIN__INSTANCES", "many", ["instances", "int"]),
        ("AUTOPOLL_DELIVERY__MAX_ATTEMPS", "3", ["max_attemps", "max_attempts"]),
        ("AUTOPOLL_DELIVRY__MAX_ATTEMPTS", "3", ["delivry", "delivery"]),
    ],
)
def test_a_wrong_override_is_named_by_its_variable(
    tmp_path: Path, name: str, value: str, words: list[str]
) -> None:
    told = error(tmp_path, MAIN, **{name: value})
    assert all(word in told for word in [name, *words]), told


def test_an_override_through_a_value_is_refused(tmp_path: Path) -> None:
    (tmp_path / "autopoll.toml").write_text(MAIN)
    with pytest.raises(ConfigError, match="AUTOPOLL_SHARDS__MAIN__BACKEND__X"):
        load(Home(tmp_path), {"AUTOPOLL_SHARDS__MAIN__BACKEND__X": "1"})


@pytest.mark.parametrize("entry", ["~nosuchuser/docs", "loop", "a\0b"])
def test_a_context_path_that_is_no_path_is_named(tmp_path: Path, entry: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    section = ShardSection(backend="extract", context=[entry])
    with pytest.raises(ConfigError) as refused:
        context_paths(Home(tmp_path), section)
    assert repr(entry) in refused.value.what and refused.value.mend
