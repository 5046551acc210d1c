"""Adds a shard to a home: checks it, writes it down, starts it, and asks it a real question.

Whatever fails, the step and its mend are shown, and the home is again as it was before. A process
that is killed in the middle leaves a shard that `autopoll reload` or `autopoll up` completes.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from autopoll.backends.environment import worker_environment
from autopoll.bridge.connect import connect
from autopoll.client.other_homes import others_serving
from autopoll.errors import AutopollError, ConfigError
from autopoll.home import credentials, shard_files, toml_file
from autopoll.home.config import Config, parse
from autopoll.home.home import Home
from autopoll.ops.change_lock import changing
from autopoll.ops.init import prepare
from autopoll.ops.process_tree import Tree, environ_of
from autopoll.ops.programs import write_programs
from autopoll.ops.reload import apply, refuse_unapplied
from autopoll.ops.shards.check import ShardCheck
from autopoll.ops.shards.give_up import Report, give_up_one
from autopoll.ops.shards.results import CheckResult, StepFailed
from autopoll.ops.supervisord_state import wait_until_steady


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """A shard that is there; `running` is false on a home that is down."""

    shard: str
    new: bool  # false when it was there already, with the same settings
    running: bool
    trial: CheckResult


class NotAdded(AutopollError):
    """A step failed; the text says what is left of the shard."""

    def __init__(self, shard: str, failure: StepFailed, left: str, mend: str) -> None:
        super().__init__(
            f"shard {shard}: step {failure.step} failed ({failure.kind}): {failure.what}; {left}",
            mend,
        )
        self.exit_code = failure.exit_code


def add(home: Home, name: str, section: Mapping[str, Any], report: Report, *, keep: bool) -> Added:
    """Add a shard with these settings, as shards.d/NAME.toml, and return the result of its check.

    Raises ConfigError with nothing written for what cannot be, and NotAdded for a step that failed,
    with the shard taken out again unless `keep`.
    """
    with changing(home, f"autopoll shards add {name}", report):
        wait_until_steady(home, report)
        return _Adding(home, name, section, report, keep).run()


class _Adding:
    """Adds one shard; used while the change lock is held."""

    def __init__(
        self, home: Home, name: str, section: Mapping[str, Any], report: Report, keep: bool
    ) -> None:
        self.home = home
        self.name = name
        self.report = report
        self.keep = keep
        self.tree = Tree.of(home)
        self.path = shard_files.path_of(home, name)
        self.text = shard_files.text_of(section)
        table = toml_file.parse(self.path, self.text)
        text, tables = toml_file.read_text(home.config), shard_files.read(home)
        self.before = self.config = self.read(text, tables)
        self.is_new = name not in self.before.shards
        if self.is_new:
            self.config = self.read(text, {**tables, name: table})
            if self.tree:
                refuse_unapplied(self.tree, self.before)
        else:
            self.refuse_other_settings(table, self.path if name in tables else home.config)
        self.check = ShardCheck(home, self.config, name, self.tree, report)

    def run(self) -> Added:
        """Check everything that can be checked without a change, then change."""
        try:
            backend = self.check.settings()
            self.check.context()
            self.check.try_instance(backend, ask=False)
        except StepFailed as failure:
            raise self.failed(failure, "nothing was written") from failure
        try:
            if self.is_new:
                shard_files.write(self.home, self.name, self.text)
            self.check.step("start", self.start)
            if self.tree:
                self.check.question()
        except (StepFailed, KeyboardInterrupt) as error:
            left = self.undo()
            if isinstance(error, KeyboardInterrupt):
                raise
            raise self.failed(error, left) from error
        return Added(
            shard=self.name,
            new=self.is_new,
            running=self.tree is not None,
            trial=self.check.result(),
        )

    def read(self, text: str, tables: Mapping[str, Mapping[str, Any]]) -> Config:
        """Return the settings as the home's processes would read them from these files."""
        return parse(self.home, text, tables, environ_of(self.tree))

    def refuse_other_settings(self, table: Mapping[str, Any], path: Path) -> None:
        """Raise ConfigError unless the shard that is there is the one to be added."""
        wanted = self.read("", {"main": {"backend": "echo"}, self.name: table})
        if wanted.shards[self.name] != self.before.shards[self.name]:
            raise ConfigError(
                f"there is a shard {self.name!r} already, with other settings",
                f"Change them in {path} and run autopoll reload; or first: "
                f"autopoll shards remove {self.name}",
            )

    def start(self) -> tuple[None, str]:
        """Make conversation and tokens, and start the shard where the home runs."""
        if self.tree is None:
            prepare(self.home, self.config)
            write_programs(self.home, self.config)
            return None, "the home is down; it is started by: autopoll up"
        apply(self.tree, self.config, self.report)
        self.check.refuse_held()
        return None, "its workers are ready"

    def undo(self) -> str:
        """Put the home back to what it was; return how that went."""
        if not self.is_new:
            return "it stands in the settings as before"
        if self.keep:
            return "it is kept, as asked"
        self.report(f"taking shard {self.name} out again")
        try:
            shard_files.remove(self.home, self.name)
            if self.tree:
                apply(self.tree, self.before, self.report)
            else:
                write_programs(self.home, self.before)
            self.clear_bridge()
        except AutopollError as error:
            return (
                f"taking it out again failed as well: {error.what}; see to {self.path}, and "
                "complete it with: autopoll reload"
            )
        return "it was taken out again"

    def clear_bridge(self) -> None:
        """Settle our question, and end our route, unless another home answers for the shard."""
        own = credentials.read(self.home).shards.get(self.name)
        if own is None:
            return
        bridge = connect(self.home, self.before)
        try:
            if others_serving(self.home, bridge, self.name):
                return
            if asked := self.check.asked:
                gone = f"shard {self.name} could not be added"
                give_up_one(bridge, asked, self.name, gone, self.report)
            if bridge.conversations.shard_of(own, "b") == self.name:
                bridge.conversations.unserve(own, "b")
        finally:
            bridge.close()

    def failed(self, failure: StepFailed, left: str) -> NotAdded:
        """Return the error with the step, the reason, what is left of the shard, and the mend."""
        mend = failure.mend
        if self.tree and failure.kind in ("credentials", "configuration"):
            options = [each.options for each in self.config.shards.values()]
            mine = worker_environment(os.environ, options)
            keys = [name for name in mine if name.endswith(("_KEY", "_TOKEN"))]
            if unknown := sorted(set(keys) - set(self.tree.environ)):
                mend += (
                    f" This shell has {', '.join(unknown)}, and the running home was started "
                    "without: give the key by --key-file, or restart it from here: "
                    "autopoll restart"
                )
        return NotAdded(self.name, failure, left, mend.strip())
