"""Libraries that only some backends need: looked for at once, imported when they are used."""

from importlib.metadata import PackageNotFoundError, version

from autopoll.errors import ConfigError
from autopoll.home.installation import extra_command


def need(shard: str, package: str, least: tuple[int, ...], extra: str = "") -> None:
    """Make sure that a package is installed in a version we know, without importing it.

    Raises ConfigError with the command that installs it otherwise; without `extra`, the extra has
    the name of the package.
    """
    mend = f"Run: {extra_command(extra or package)}"
    try:
        found = version(package)
    except PackageNotFoundError as error:
        raise ConfigError(f"shard {shard}: the library {package} is not installed", mend) from error
    numbers = tuple(int(part) for part in found.split(".")[: len(least)] if part.isdecimal())
    if numbers < least:
        wanted = ".".join(map(str, least))
        raise ConfigError(
            f"shard {shard}: {package} is {found}, and {wanted} or newer is needed", mend
        )
