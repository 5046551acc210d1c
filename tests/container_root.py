"""What an engine does with a container file, as far as root can without one.

The base image is this machine's own root, below an overlay that takes all that the steps of the
file write. A container of it has a process namespace of its own, the entry point as process 1, the
file's user without any capability, its environment and nothing else, and a root that nobody can
write to.
"""

import fnmatch
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
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
    trial = "mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/u.work /mnt/m && " + _overlay(
        Path("/mnt")
    )
    return (
        os.geteuid() == 0
        and not subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-c", trial], capture_output=True
        ).returncode
    )


def _overlay(folder: Path, layer: str = "u") -> str:
    options = f"lowerdir=/,upperdir={folder}/{layer},workdir={folder}/{layer}.work"
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
        for name in ("u", "u.work", "m"):
            (self._folder / name).mkdir()
        (self._folder / "u" / "run" / "secrets").mkdir(parents=True)
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
                    copy_context(ROOT, Path(f"{self._folder}/u{rest.split()[1]}"))

    def _run(self, line: str, environ: dict[str, str]) -> None:
        script = f"{_overlay(self._folder)} && mount --bind /dev {self._folder}/m/dev"
        script += f" && mount -t proc proc {self._folder}/m/proc"
        script += f' && exec chroot {self._folder}/m sh -c "$1"'
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script, "sh", line],
            env=environ, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"

    @contextmanager
    def running(
        self,
        log: Path,
        volume: str = "volume",
        environ: Mapping[str, str] | None = None,
        secrets: Path | None = None,
    ) -> Iterator["Container"]:
        """Run the image as the compose file says, and kill what is left of it in the end.

        The environment is that of the compose file, the secrets a folder with a file for each.
        """
        container = Container(self, self.made(volume), log, environ or {}, secrets)
        try:
            yield container
        finally:
            container.kill()

    def made(self, volume: str) -> Path:
        """Return the folder of a volume, which lasts; a new one is as the image has it."""
        folder = self._folder / volume
        if not folder.exists():
            folder.mkdir(mode=0o700)
            os.chown(folder, int(self.user), int(self.group))
        return folder

    def layer(self, volume: str) -> str:
        """Return the command that mounts the root, below a layer that no other container has."""
        layer = f"{volume}.layer"
        if not (self._folder / layer).exists():
            links = ["cp", "--archive", "--link", f"{self._folder}/u", f"{self._folder}/{layer}"]
            subprocess.run(links, check=True)
            (self._folder / f"{layer}.work").mkdir()
        return _overlay(self._folder, layer)

    @property
    def root(self) -> Path:
        return self._folder / "m"


def copy_context(source: Path, target: Path) -> None:
    """Copy a checkout as an engine is sent it: without what .dockerignore names."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()

    def left_out(folder: str, names: list[str]) -> set[str]:
        paths = {name: str((Path(folder) / name).relative_to(source)) for name in names}
        return {name for name in names if any(_matches(paths[name], line) for line in lines)}

    shutil.copytree(source, target, symlinks=True, ignore=left_out)


def _matches(path: str, pattern: str) -> bool:
    """Tell whether a pattern names a path; of the patterns there may be, those in use here."""
    anywhere = pattern.removeprefix("**/")
    name = path.rpartition("/")[2] if anywhere != pattern else path
    return fnmatch.fnmatchcase(name, anywhere) and name.count("/") == anywhere.count("/")


class Container:
    """A running image, with its volume in a folder that lasts."""

    def __init__(
        self,
        image: Image,
        volume: Path,
        log: Path,
        environ: Mapping[str, str],
        secrets: Path | None,
    ) -> None:
        self._image = image
        self._environ = {**image.environ, **environ}
        merged, place = image.root, f"{image.root}{image.volume}"
        script = " && ".join(
            [
                image.layer(volume.name),
                f"mount --bind {volume} {place}",
                *([f"mount --bind -o ro {secrets} {merged}/run/secrets"] if secrets else []),
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
        environ = [f"{name}={text}" for name, text in self._environ.items()]
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
