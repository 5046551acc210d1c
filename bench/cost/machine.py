"""What machine a run was made on, so that two runs are compared only when it was the same."""

import os
import platform
from pathlib import Path

import apsw
import msgspec

from autopoll.bridge.sqlite.filesystem import MOUNTS, file_system


class Machine(msgspec.Struct, frozen=True):
    """All that times depend on and that a run cannot choose."""

    processor: str
    cores: int
    memory_gb: int
    kernel: str
    disk: str  # the type of the file system that the homes lie on
    python: str
    sqlite: str

    def differences(self, other: "Machine") -> list[str]:
        """Return a line for each thing that is not the same."""
        mine, others = msgspec.structs.asdict(self), msgspec.structs.asdict(other)
        return [
            f"{name}: {mine[name]} and {others[name]}"
            for name in mine
            if mine[name] != others[name]
        ]


def this_machine(folder: Path) -> Machine:
    """Describe the machine, with the file system of the folder."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(memory / 2**30),
        kernel=platform.release(),
        disk=file_system(folder.resolve(), MOUNTS.read_text("utf-8", "replace")),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        sqlite=apsw.sqlite_lib_version(),
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Processor", "cpu model"):
            return value.strip()
    return platform.machine()
