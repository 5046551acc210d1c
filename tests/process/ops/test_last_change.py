"""`status` says who started or stopped the home, and how it went down when nobody did."""

import os
import signal
from pathlib import Path

import msgspec
from place import Place, until

from autopoll.home import operation_log
from autopoll.process import heartbeat
from autopoll.process.atomic_record import Slots
from autopoll.process.heartbeat_writer import Heart


def change(place: Place, code: int | None) -> str:
    return str(place.json("status", code=code)["last_change"])


def test_who_started_and_stopped_a_home_and_that_nobody_did(tmp_path: Path) -> None:
    place = Place(tmp_path / "home")
    me = operation_log.operator_name()
    assert place.json("status", code=2)["last_change"] is None
    try:
        place.run("up")
        assert change(place, 0).startswith(f"started by {me} at 20")
        assert change(place, 0) in place.run("status").stdout
        place.run("down")
        stopped = change(place, 2)
        assert stopped.startswith(f"stopped by {me} at 20") and stopped.endswith("`autopoll down`")
        place.run("down")
        assert change(place, 2) == stopped, "of a home that is down nothing is stopped"

        place.run("up")
        os.kill(place.supervisord(), signal.SIGKILL)
        killed = until(
            lambda: (found := change(place, None)) and "supervisord was killed" in found and found,
            what="supervisord to be gone",
        )
        assert killed.startswith("nobody stopped it: ") and f"started by {me}" in killed
        place.run("down")
        assert "supervisord was killed" in change(place, 2), "also after the clearing up"
        place.run("up")
        os.kill(place.supervisord(), signal.SIGTERM)
        until(lambda: "told to end" in change(place, None), what="the orderly end")
    finally:
        place.close()


def test_a_machine_that_was_restarted_is_named(tmp_path: Path) -> None:
    place = Place(tmp_path / "home")
    place.home.make_private()
    operation_log.note(place.home, "started", command="autopoll up")
    with Heart(place.home.beats / "worker", "worker"):
        beat = heartbeat.read(place.home.beats / "worker")
    assert beat is not None
    (place.home.beats / "worker").unlink()
    slots = Slots(place.home.beats / "worker")
    slots.write(msgspec.msgpack.encode(msgspec.structs.replace(beat, boot_id="another")))
    slots.close()
    words = change(place, 2)
    assert words.startswith("nobody stopped it: the machine was restarted at 20")
    place.close()
