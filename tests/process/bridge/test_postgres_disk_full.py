"""A PostgreSQL server whose disk is full: nothing is half stored, and work goes on with room."""

import os
import subprocess
import sys

import pytest

# In a namespace of its own, with which its small file system ends.
FILLS_A_DISK = """
import os, secrets, subprocess
import pytest
from bridge_calls import answered, ask, settle
from postgres_calls import answers, claimed
from postgres_server import PostgresServer
from autopoll.bridge.postgres import PostgresBridge
from autopoll.bridge.records import BridgeLimits
from autopoll.errors import BridgeFull

def large(bytes_):
    return secrets.token_hex(bytes_ // 2)  # which cannot be compressed

with PostgresServer(tcp=True) as server:
    small = server.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0777", "tmpfs", small], check=True)
    space = small / "space"
    space.mkdir()
    owner = server.data.stat()
    os.chown(space, owner.st_uid, owner.st_gid)
    server.run_sql(f"CREATE TABLESPACE small LOCATION '{space}'")
    server.run_sql("CREATE DATABASE small TABLESPACE small")
    bridge = PostgresBridge(server.tcp_url("small"), BridgeLimits(), create=True)
    held = claimed(bridge)
    filler = small / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    for write in (
        lambda: ask(bridge, held.conversation, large(500_000)),
        lambda: settle(bridge, answered(held, large(500_000))),
    ):
        with pytest.raises(BridgeFull, match="nothing was changed"):
            write()
        assert bridge.overview.in_flight() == {"main": 1}
        assert len(bridge.messages.find(conversation=held.conversation)) == 1
    filler.unlink()
    settled = settle(bridge, answered(held, large(500_000)))
    assert settled.state == "done"
    assert answers(bridge, held) == [settled.answer_id]
    bridge.close()
    print("worked on")
"""


@pytest.mark.long  # only root may mount a file system
def test_a_full_disk_leaves_nothing_half_stored_and_with_room_the_work_goes_on() -> None:
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", FILLS_A_DISK],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "worked on\n", done.stderr
