"""A gateway that cannot listen: it alone is held, with its reason, and comes up by itself."""

import json
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import httpx
import pytest
from doors import free_port
from place import ECHO, Place, until

pytestmark = pytest.mark.long


def settings(listen: str) -> str:
    return f'{ECHO}[gateway]\nenabled = true\nlisten = "{listen}"\n'


@contextmanager
def taken(port: int) -> Iterator[None]:
    with closing(socket.create_server(("127.0.0.1", port))):
        yield


def serves(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def gateway(place: Place) -> dict:
    told = json.loads(place.run("status", "--json", code=None).stdout)
    [found] = [each for each in told["processes"] if each["name"] == "gateway"]
    return found


def test_a_port_in_use_holds_the_gateway_alone_until_it_is_free(
    new_place: Callable[..., Place],
) -> None:
    port = free_port()
    place = new_place(settings(f"127.0.0.1:{port}"))
    reason = f"another program listens on 127.0.0.1:{port}. Stop it, or change gateway.listen."
    with taken(port):
        up = place.run("up", code=1)
        assert "is up: main ready" in up.stdout
        assert f"the gateway is held: {reason}" in up.stderr
        assert place.json("ask", "all the same?")["answer"] == "all the same?"
        assert (gateway(place)["state"], gateway(place)["note"]) == ("held", reason)
        place.run("status", code=1)
        health = json.loads(place.run("health", "--json", code=1).stdout)
        assert health["verdict"] == "degraded"
        assert [each["detail"] for each in health["checks"] if not each["ok"]] == [
            f"held: {reason}"
        ]
        held = place.pid("gateway")
        assert reason in place.run("restart", "gateway", code=1).stderr
        until(lambda: (beat := place.beat("gateway")) and beat.pid != held, what="another one")
    until(lambda: serves(port), 90, "the gateway to serve")
    until(lambda: place.run("health", code=None).returncode == 0, 30, "the home to be well")
    assert gateway(place)["note"] == ""


def test_what_a_changed_setting_makes_impossible_is_said_by_reload(
    new_place: Callable[..., Place],
) -> None:
    place = new_place(settings("unix:var/run/g.sock"))
    assert place.json("up")["ready"]
    for listen, reason in (
        ("192.0.2.1:8765", "Cannot assign requested address"),
        ("unix:autopoll.toml", "is no socket"),
    ):
        more = "allow_remote = true\n" if listen.startswith("192") else ""
        (place.root / "autopoll.toml").write_text(settings(listen) + more)
        if more:
            place.run("gateway", "token")
        refused = place.run("reload", code=1)
        assert "the gateway is held:" in refused.stderr
        assert reason in refused.stderr
        assert place.json("ask", "still?")["answer"] == "still?"
    (place.root / "autopoll.toml").write_text(settings("unix:var/run/g.sock"))
    place.run("reload")
    assert gateway(place)["state"] == "idle"


def test_a_held_gateway_ends_as_any_other(new_place: Callable[..., Place]) -> None:
    port = free_port()
    place = new_place(settings(f"127.0.0.1:{port}"))
    with taken(port):
        assert not json.loads(place.run("up", "--json", code=1).stdout)["ready"]
        first = place.kill("gateway", signal.SIGTERM)
        until(lambda: (beat := place.beat("gateway")) and beat.pid != first, 30, "another")
        until(lambda: gateway(place)["state"] == "held", 30, "it to be held")
        place.run("down")
        assert place.processes() == []


def test_a_gateway_that_refuses_its_settings_keeps_nothing_else_from_coming_up(
    new_place: Callable[..., Place],
) -> None:
    place = new_place(settings(f"0.0.0.0:{free_port()}") + "allow_remote = true\n")
    up = place.run("up", code=1)
    assert "is up: main ready" in up.stdout
    assert "gateway does not start: " in up.stderr
    assert "there is no operator's token" in up.stderr
    assert place.json("ask", "all the same?")["answer"] == "all the same?"
    assert "no operator's token" in gateway(place)["note"]
    place.run("health", code=1)
