"""Which variables reach workers, and which the children of a backend."""

import pytest
from psycopg.pq import Conninfo

from autopoll.backends.environment import (
    bridge_variables,
    child_environment,
    forget_bridge,
    worker_environment,
)
from autopoll.errors import ConfigError

NESTING = [
    "CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SESSION_ID", "CLAUDE_CODE_CHILD_SESSION",
    "CLAUDE_CODE_MESSAGING_SOCKET", "CLAUDE_CODE_SSE_PORT", "CLAUDE_CODE_SDK_READS_SESSION_STATE",
    "CLAUDE_AGENT_SDK_VERSION", "CLAUDE_PID", "CLAUDE_EFFORT", "AI_AGENT", "TRACEPARENT",
    "TRACESTATE",
]  # fmt: skip
SERVICES = [
    "PATH", "HOME", "LC_ALL", "TMPDIR", "https_proxy", "NO_PROXY", "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_OAUTH_TOKEN",
    "AUTOPOLL_SHARDS__MAIN__INSTANCES", "XDG_STATE_HOME", "PYTHONPATH",
]  # fmt: skip


def test_workers_get_what_services_are_reached_by() -> None:
    wanted = dict.fromkeys(SERVICES, "x")
    assert worker_environment(wanted) == wanted


@pytest.mark.parametrize("name", NESTING)
def test_what_tells_a_nested_agent_from_others_reaches_nobody(name: str) -> None:
    environ = {name: "1", "PATH": "/bin"}
    assert worker_environment(environ) == {"PATH": "/bin"}
    assert worker_environment(environ, [{"env": [name], "key_env": name}]) == {"PATH": "/bin"}
    with pytest.raises(ConfigError, match="may not be passed on"):
        child_environment(environ, "main", [name])


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "AUTOPOLL_TOKEN"])
def test_workers_get_no_secret_that_nobody_has_named(name: str) -> None:
    assert worker_environment({name: "x"}) == {}


def test_a_worker_forgets_how_the_bridge_is_reached_unless_its_shard_names_it() -> None:
    environ = {"PGPASSWORD": "x", "PGHOST": "db", "PATH": "/bin", "PG": "page"}
    forget_bridge(environ, {"env": ["PGHOST"]})
    assert environ == {"PGHOST": "db", "PATH": "/bin", "PG": "page"}


def test_a_worker_forgets_all_that_libpq_reads() -> None:
    known = [each.envvar.decode() for each in Conninfo.get_defaults() if each.envvar]
    assert len(known) > 20
    others = ["PGSERVICEFILE", "PGSYSCONFDIR", "PGLOCALEDIR", "PGTZ", "PGDATESTYLE", "PGGEQO"]
    environ = dict.fromkeys([*known, *others], "x")
    assert bridge_variables(environ) == environ.keys()
    forget_bridge(environ, {})
    assert environ == {}


def test_workers_get_what_the_options_of_their_shards_name() -> None:
    environ = {"MY_KEY": "k", "AWS_REGION": "r", "OTHER": "o"}
    options = [{"env": ["AWS_REGION", "NOT_SET", 7]}, {"key_env": "MY_KEY"}, {"env": "OTHER"}]
    assert worker_environment(environ, options) == {"MY_KEY": "k", "AWS_REGION": "r"}


def test_a_child_gets_no_key_that_its_options_do_not_name() -> None:
    environ = {"ANTHROPIC_API_KEY": "k", "PATH": "/bin"}
    assert child_environment(environ, "main") == {"PATH": "/bin"}
    assert child_environment(environ, "main", ["ANTHROPIC_API_KEY"]) == environ
