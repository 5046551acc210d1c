"""What an engine does with a container file, as far as root can without one.

The base image is this machine's own root, below an overlay that takes all that the steps of the
file write. A container of it has a process namespace of its own, the entry point as process 1, the
file's user without any capability, its environment and nothing else, and a root that nobody can
write to.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from place import until

ROOT = Path(__file__).parents[1]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as images have it
# How this machine reaches its registries; an engine passes that on to the steps, too.
PASSED_ON = ("_CERT", "_BUNDLE", "_CERT_FILE", "_CERT_DIR", "_proxy", "_PROXY")

# A base image has its own python3 there. This machine's may lie where only root gets to.
_PYTHON = """
printf '#!/bin/sh\\nexec {0} "$@"\\n' > /usr/local/bin/python3
chmod 755 /usr/local/bin/python3
place={0}
while [ $place != / ]; do place=$(dirname $place); chmod a+rx $place; done
"""


def can_be_made() -> bool:
    """Tell whether this user may mount an overlay and make a namespace."""
    trial = "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w /mnt/m && " + _overlay(Path("/mnt"))
    return (
        os.geteuid() == 0
        and not subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-c", trial], capture_output=True
        ).returncode
    )


def _overlay(folder: Path) -> str:
    options = f"lowerdir=/,upperdir={folder}/u,workdir={folder}/w"
    return f"mount -t overlay overlay -o {options} {folder}/m"


class Image:
    """The container file, and the root that its steps have made in a folder."""

    def __init__(self, file: Path, folder: Path) -> None:
        self._folder = folder
        lines = file.read_text().splitlines()
        self.steps = [
            (name, rest)
            for name, _, rest in (line.partition(" ") for line in lines if line)
            if not name.startswith("#")
        ]
        last = dict(self.steps)
        self.environ = dict(
            word.split("=", 1) for _, rest in self.steps_of("ENV") for word in shlex.split(rest)
        )
        self.volume = last["VOLUME"]
        self.user, _, self.group = last["USER"].partition(":")
        self.command = [*json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"])]
        self.stop_signal = signal.Signals[last["STOPSIGNAL"]]
        self.health_check = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])

    def steps_of(self, name: str) -> list[tuple[str, str]]:
        return [step for step in self.steps if step[0] == name]

    def build(self) -> None:
        """Carry out the steps in a root of their own; raises CalledProcessError."""
        for name in ("u", "w", "m", "volume"):
            (self._folder / name).mkdir()
        arguments = dict(rest.split("=", 1) for _, rest in self.steps_of("ARG"))
        passed_on = {name: text for name, text in os.environ.items() if name.endswith(PASSED_ON)}
        environ = {"PATH": PATH, **passed_on, **arguments}
        interpreter = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
        for name, rest in self.steps:
            match name:
                case "FROM":
                    self._run(_PYTHON.format(interpreter), environ)
                case "RUN":
                    self._run(rest, environ)
                case "COPY":
                    self._copy(rest.split()[1])

    def _run(self, line: str, environ: dict[str, str]) -> None:
        script = f"{_overlay(self._folder)} && mount --bind /dev {self._folder}/m/dev"
        script += f" && mount -t proc proc {self._folder}/m/proc"
        script += f' && exec chroot {self._folder}/m sh -c "$1"'
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, "sh", line],
            env=environ, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"

    def _copy(self, target: str) -> None:
        """Put there what an engine would be sent: what git knows, in the state it is in here."""
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        )
        for name in listed.stdout.decode().split("\0"):
            source, place = ROOT / name, Path(f"{self._folder}/u{target}/{name}")
            if name and os.path.lexists(source):
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, place, follow_symlinks=False)

    @contextmanager
    def running(self, log: Path) -> Iterator["Container"]:
        """Run the image as the compose file says, and kill what is left of it in the end."""
        container = Container(self, self._folder, log)
        try:
            yield container
        finally:
            container.kill()


class Container:
    """A running image, with its volume in a folder that lasts."""

    def __init__(self, image: Image, folder: Path, log: Path) -> None:
        self._image = image
        merged, volume = folder / "m", folder / "volume"
        place = f"{merged}{image.volume}"
        os.chown(volume, int(image.user), int(image.group))
        volume.chmod(0o700)
        script = " && ".join(
            [
                _overlay(folder),
                f"mount --bind {volume} {place}",
                f"mount -t tmpfs tmpfs {merged}/tmp",
                f"mount --rbind /dev {merged}/dev",
                f"mount -t proc proc {merged}/proc",
                f"mount -o remount,bind,ro {merged}",
                f'cd {place} && exec chroot {merged} sh -c \'cd "$0" && exec "$@"\' {image.volume}'
                f" {shlex.join(self._as_user(image.command))}",
            ]
        )
        with log.open("wb") as out:
            self._unshare = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script],
                env={"PATH": PATH}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip
        self.first = until(self._find_first, what="process 1")

    def _as_user(self, command: list[str]) -> list[str]:
        image = self._image
        environ = [f"{name}={text}" for name, text in image.environ.items()]
        ids = [f"--reuid={image.user}", f"--regid={image.group}", "--clear-groups"]
        none = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        return ["setpriv", *ids, *none, "env", "--ignore-environment", *environ, *command]

    def _find_first(self) -> psutil.Process | None:
        for each in psutil.Process(self._unshare.pid).children():
            if each.name() == self._image.command[0]:
                return each
        return None

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command inside, as `exec` of an engine does."""
        inside = ["nsenter", f"--target={self.first.pid}", "--mount", "--pid", "--root"]
        place = [f"--wdns={self._image.volume}"]
        return subprocess.run(
            [*inside, *place, *self._as_user([*command])],
            capture_output=True,
            text=True,
            timeout=120,
        )

    def stop(self, seconds: float) -> int:
        """Send process 1 the stop signal, and return the exit code, which comes within the time."""
        self.first.send_signal(self._image.stop_signal)
        return self._unshare.wait(seconds)

    def kill(self) -> None:
        """Kill process 1, and with it, by the kernel, all others of its namespace."""
        if self._unshare.poll() is None:
            self.first.kill()
            self._unshare.wait()
