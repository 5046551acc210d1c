"""What is checked before anything of a home is started."""

import os

from autopoll.backends import open_backend
from autopoll.backends.contract import Setting
from autopoll.errors import ConfigError
from autopoll.home import program_safety
from autopoll.home.config import Config, context_paths
from autopoll.home.home import Home
from autopoll.ops.copied_home import refuse_copy
from autopoll.ops.programs import worker_program
from autopoll.ops.supervisord_launch import supervisord_environment


def check_start(home: Home, config: Config) -> None:
    """Raise ConfigError for every mistake that can be seen without starting anything."""
    refuse_copy(home)
    _refuse_link(home)
    worker_program(home)
    program_safety.require_safe_tree(home, supervisord_environment(os.environ, config)["PATH"])
    for shard, section in config.shards.items():
        open_backend(
            section.backend,
            Setting(
                shard=shard,
                root=home.root,
                context=context_paths(home, section),
                options=section.options,
            ),
        )


def _refuse_link(home: Home) -> None:
    """Raise ConfigError where `%(here)s/..` in the process tree would lead out of the home."""
    folder = home.supervisord_conf.parent
    if (place := folder.resolve()) != folder:
        raise ConfigError(
            f"{folder} is a link to {place}, and supervisord would look for var beside that",
            "Make it a folder of the home; the file in it may be a link.",
        )
