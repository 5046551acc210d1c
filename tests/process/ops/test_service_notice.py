"""The service manager is told when the home is ready and when it ends, on a real socket."""

import os
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest
from place import until

pytestmark = pytest.mark.long


def listening(address: str) -> socket.socket:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind("\0" + address[1:] if address.startswith("@") else address)
    manager.settimeout(60)
    return manager


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_the_service_manager_is_told_readiness_and_the_end(new_place, kind: str) -> None:
    place = new_place()
    address = f"@autopoll-{os.getpid()}" if kind == "abstract" else f"{place.state.name}/notify"
    with listening(address) as manager:
        process = subprocess.Popen(
            [*place.command, "up", "--foreground"],
            cwd=place.root,
            env=place.environ | {"NOTIFY_SOCKET": address},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            said = manager.recv(4096).decode().splitlines()
            assert said == ["READY=1", "STATUS=ready", f"MAINPID={process.pid}"]
            assert place.json("status")["ready"]
            children = psutil.Process(process.pid).children(recursive=True)
            assert children
            assert not any("NOTIFY_SOCKET" in child.environ() for child in children)
            process.send_signal(signal.SIGTERM)
            assert manager.recv(4096).decode().splitlines()[0] == "STOPPING=1"
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()


def test_a_service_manager_that_is_gone_holds_up_nothing(new_place) -> None:
    place = new_place()
    place.environ["NOTIFY_SOCKET"] = f"{place.state.name}/nobody"
    place.run("up")
    assert place.ask("still there?")["answer"] == "still there?"
    log = Path(place.home.log / "supervisord.log")
    until(lambda: "the service manager takes no notice" in log.read_text())
    place.run("down")
