"""What lies in the folder of a pair: ours alone, and nothing that is left behind."""

import os
import stat
import subprocess
import time

import pytest
from fifo_end import Answerer, Asker, on_loop, until

from fifo import endpoint, events, pair, pipe, server_end
from fifo.exceptions import FolderError, UnsafePipe

# --- what lies at the paths


def a_file(path):
    path.write_text("precious")


def a_symlink(path):
    target = path.parent / "target"
    os.mkfifo(target, 0o600)
    path.symlink_to(target)


def a_folder(path):
    path.mkdir()


def a_wide_pipe(path):
    os.mkfifo(path)
    path.chmod(0o622)


def a_second_name(path):
    os.mkfifo(path, 0o600)
    os.link(path, path.parent / "other")


def another_pipe(path):
    os.mkfifo(path, 0o600)


WRONG = {
    a_file: "is a file, not a named pipe",
    a_symlink: "is a symlink",
    a_folder: "is a folder",
    a_wide_pipe: "has mode 0622, not 0600",
    a_second_name: "has 2 links",
    another_pipe: "is not the pipe that its owner published",
}


@pytest.mark.parametrize("name", [pair.REQUESTS, pair.REPLIES])
@pytest.mark.parametrize("put", WRONG)
@on_loop
async def test_what_replaces_a_pipe_is_refused_by_the_client_and_mended(folder, spawn, put, name):
    server = spawn("server")
    path = folder / name
    await until(lambda: endpoint.read(folder))
    server.stop()
    path.unlink()
    put(path)
    asker = Asker(folder)
    for _ in range(3):
        asker.client.poke()
    told = asker.told(events.Unreachable)[0].error
    assert isinstance(told, UnsafePipe)
    assert told.what == f"{path} {WRONG[put]}" or WRONG[put] in told.what
    assert f"rm -r {path}" in told.mend
    server.carry_on()
    if put in (a_file, a_symlink, a_folder):  # not ours to remove: a person has to
        await until(lambda: server.saw("PairBroken"))
        assert path.exists()
        path.rmdir() if put is a_folder else path.unlink()
    await asker.connect()
    assert (await asker.ask(1, b"mended")).payload == b"mended"
    assert server.saw("PairBroken") <= 1
    asker.client.close()


@pytest.mark.parametrize("put", [a_file, a_symlink, a_folder])
@on_loop
async def test_a_server_does_not_start_over_what_is_not_a_pipe(folder, put):
    folder.mkdir(mode=0o700)
    path = folder / pair.REQUESTS
    put(path)
    answerer = Answerer(folder)
    with pytest.raises(UnsafePipe, match=WRONG[put]) as caught:
        await answerer.server.start()
    assert str(path) in caught.value.what
    assert path.lstat()
    path.rmdir() if put is a_folder else path.unlink()
    await answerer.start()  # the refusal gave the lock back
    await answerer.server.close()


@on_loop
async def test_left_over_pipes_are_replaced_whatever_the_umask(folder):
    folder.mkdir(mode=0o700)
    another_pipe(folder / pair.REQUESTS)
    a_wide_pipe(folder / pair.REPLIES)
    before = os.umask(0o777)
    try:
        answerer = await Answerer(folder).start()
    finally:
        os.umask(before)
    for name in (pair.REQUESTS, pair.REPLIES):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    await answerer.server.close()


@on_loop
async def test_what_belongs_to_another_user_is_refused(folder, monkeypatch):
    answerer = await Answerer(folder).start()
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(UnsafePipe, match="belongs to user"):
            pipe.open_end(folder / pair.REQUESTS, pipe.WRITE_END)
        with pytest.raises(UnsafePipe, match="belongs to user"):
            pipe.make(folder / pair.REQUESTS)
        with pytest.raises(UnsafePipe, match="not private"):
            pipe.check_folder(folder)
        asker = Asker(folder)
        asker.client.poke()
        assert isinstance(asker.events[0].error, UnsafePipe)
        asker.client.close()
    await answerer.server.close()


@on_loop
async def test_a_folder_that_others_may_write_to_is_refused(folder):
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(UnsafePipe, match="0777") as caught:
        await Answerer(folder).start()
    assert f"chmod 700 {folder}" in caught.value.mend


@on_loop
async def test_a_lock_that_is_no_file_of_ours_is_refused(folder):
    folder.mkdir(mode=0o700)
    (folder / server_end.LOCK_NAME).symlink_to(folder / "elsewhere")
    with pytest.raises(UnsafePipe, match="symlink"):
        await Answerer(folder).start()
    assert not (folder / "elsewhere").exists()


@on_loop
async def test_an_endpoint_that_cannot_be_read_is_told_and_mended(folder):
    answerer = await Answerer(folder).start()
    (folder / endpoint.NAME).write_text("not json")
    asker = Asker(folder)
    asker.client.poke()
    assert isinstance(asker.events[0].error, FolderError)
    await asker.connect()
    asker.client.close()
    await answerer.server.close()


async def several_ticks(server):
    for _ in range(3):
        last = server._timer
        await until(lambda last=last: server._timer is not last)


@on_loop
async def test_removing_the_whole_folder_is_mended_when_the_client_is_gone(folder):
    answerer = await Answerer(folder).start()
    asker = await Asker(folder).connect()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert not pair.intact(folder, answerer.server._link.endpoint)
    await several_ticks(answerer.server)
    assert (await asker.ask(1, b"still")).payload == b"still"
    asker.client.close()
    asker = await Asker(folder).connect()
    assert (await asker.ask(1, b"again")).payload == b"again"
    asker.client.close()
    await answerer.server.close()


@on_loop
async def test_a_pair_that_cannot_be_published_is_told_once_and_made_when_it_can(folder):
    answerer = await Answerer(folder).start()
    asker = await Asker(folder).connect()
    hindrance = folder / f"{endpoint.NAME}.new"
    hindrance.mkdir()  # as full a disk as even root notices
    asker.client.close()
    [broken] = await until(lambda: answerer.told(events.PairBroken))
    assert isinstance(broken.error, FolderError)
    assert str(hindrance) in broken.error.what
    answerer.server.reply(1, b"into the void")
    hindrance.rmdir()
    asker = await Asker(folder).connect()
    assert len(answerer.told(events.PairBroken)) == 1
    asker.client.close()
    await answerer.server.close()


# --- epochs and descriptors


@on_loop
async def test_the_epoch_grows_when_the_clock_is_set_back_and_when_the_folder_is_gone(
    folder, monkeypatch
):
    answerer = await Answerer(folder).start()
    first = answerer.epoch
    await answerer.server.close()
    with monkeypatch.context() as earlier:
        earlier.setattr(time, "time_ns", lambda: 1_000_000_000_000_000_000)
        await answerer.start()
        assert answerer.epoch == first + 1
        await answerer.server.close()
    await until(lambda: time.time_ns() // 1_000_000 > first + 1)
    for path in folder.iterdir():
        path.unlink()
    await answerer.start()
    assert answerer.epoch > first + 1
    await answerer.server.close()


@on_loop
async def test_fifty_reconnects_leave_no_descriptor_behind(folder, spawn):
    server = spawn("server")

    def count(pid):
        return len(os.listdir(f"/proc/{pid}/fd"))

    counts = []
    for _ in range(51):
        asker = await Asker(folder).connect()
        await asker.ask(1, b"x")
        asker.client.close()
        joined = server.saw("ClientJoined")
        await until(lambda joined=joined: server.saw("PairPublished") > joined)
        counts.append((count(os.getpid()), count(server.pid)))
    assert counts[-1] == counts[0]


@on_loop
async def test_a_child_inherits_no_descriptor(folder):
    answerer = await Answerer(folder).start()
    asker = await Asker(folder).connect()
    command = ["ls", "-l", "/proc/self/fd", f"/proc/{os.getpid()}/fd"]
    shown = subprocess.run(command, close_fds=False, capture_output=True, text=True).stdout
    theirs, ours = shown.split(f"/proc/{os.getpid()}/fd:")
    assert str(folder) not in theirs
    assert ours.count(str(folder)) == 6  # two ends and a lock on each side
    asker.client.close()
    await answerer.server.close()
