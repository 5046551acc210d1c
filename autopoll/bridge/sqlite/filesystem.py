"""Where a write-ahead log works: every file system whose memory maps all its users share."""

from pathlib import Path

from autopoll.bridge.records import StoreWarning
from autopoll.errors import BridgeError

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "glusterfs", "lustre",
    "davfs", "fuse.davfs2", "fuse.sshfs", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs",
    "fuse.gcsfuse",
}  # fmt: skip


# Of virtual machines and containers, whose two sides need not share a file's memory map.
_SHARED = {"9p", "virtiofs", "vboxsf", "fakeowner", "fuse.grpcfuse", "drvfs", "prl_fs", "vmhgfs"}


def doubts(path: Path) -> list[StoreWarning]:
    """Return what may be wrong with the place of a (resolved) path, though it is not refused."""
    try:
        text = MOUNTS.read_text(errors="surrogateescape")
    except OSError:
        return []
    found = []
    kind = file_system(path, text)
    if kind in _SHARED or (kind.startswith("fuse") and kind not in NETWORK):
        what = f"{path} is on {kind}; if others reach it from another side, its log does not work"
        found.append(StoreWarning("disk of the bridge", what, "Move the bridge to a local disk."))
    if any(Path(_unescaped(line.split(" ")[4])) == path for line in text.splitlines()):
        what = f"{path} is mounted by itself, and its log (-wal) beside it is not"
        mend = "Mount the folder in place of the file."
        found.append(StoreWarning("disk of the bridge", what, mend))
    return found


def refuse_network(path: Path) -> None:
    """Raise BridgeError when the (resolved) path lies on a network file system.

    Two hosts do not share the log's index there, and each would overwrite what the other wrote.
    """
    try:
        kind = file_system(path, MOUNTS.read_text(errors="surrogateescape"))
    except OSError:
        return  # no /proc: SQLite's own check for shared memory has to do
    if kind in NETWORK:
        raise BridgeError(
            f"{path} is on a network file system ({kind}), where SQLite's log does not work",
            "Move the bridge to a local disk.",
        )


def file_system(path: Path, mountinfo: str) -> str:
    """Return the type of the file system that holds `path`, "" when no mount does.

    `mountinfo` is the text of /proc/self/mountinfo, proc(5): field 5 is the mount point, the field
    after the lone dash the type. Of two mounts on one point the later one hides the earlier.
    """
    found, kind = -1, ""
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        point = Path(_unescaped(fields[4]))
        if len(point.parts) >= found and path.is_relative_to(point):
            found, kind = len(point.parts), fields[fields.index("-") + 1]
    return kind


def _unescaped(point: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, char)
    return point
