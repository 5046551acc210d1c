"""The programs of a home as files for supervisord, made from its settings."""

from autopoll.errors import ConfigError
from autopoll.home import files
from autopoll.home.config import Config
from autopoll.home.home import Home

GATEWAY = "gateway"


def names_of(config: Config) -> list[str]:
    """Return every program that a home with these settings has."""
    names = ["watchdog", *config.instances(), "poller"]
    return [*names, GATEWAY] if config.gateway.enabled else names


def write_programs(home: Home, config: Config) -> None:
    """Write a program file for each instance that conf/supervisord.conf does not name itself, and
    for the gateway."""
    template = worker_program(home)
    wanted: dict[str, list[str]] = {}
    for name, shard in config.instances().items():
        if name == "worker":
            continue
        number = name.rsplit("-", 1)[1]
        text = template.replace("[program:worker]", f"[program:{name}]")
        text = text.replace("--shard main --instance 1", f"--shard {shard} --instance {number}")
        text = text.replace("%(here)s/../var/log/worker.", f"%(here)s/../../var/log/{name}.")
        wanted.setdefault(f"{shard}.conf", []).append(text)
    if config.gateway.enabled:
        text = template.replace("[program:worker]", f"[program:{GATEWAY}]")
        text = text.replace("worker --home . --shard main --instance 1", f"{GATEWAY} --home .")
        text = text.replace("priority = 20", "priority = 40")  # up last, down first: it only asks
        text = text.replace("%(here)s/../var/log/worker.", f"%(here)s/../../var/log/{GATEWAY}.")
        wanted[f"@{GATEWAY}.conf"] = [text]  # a name that no shard can have
    for old in home.program_files.glob("*.conf"):
        if old.name not in wanted:
            old.unlink()
    if wanted:
        home.program_files.mkdir(mode=0o700, exist_ok=True)
    for name, sections in wanted.items():
        path, text = home.program_files / name, "\n".join(sections)
        if files.get(path) != text.encode():  # which lets conf be read-only, as in an image
            files.put(path, text.encode())


def worker_program(home: Home) -> str:
    """Return the section of the first worker, after which all others are made."""
    text = home.supervisord_conf.read_text("utf-8")
    start = text.find("[program:worker]")
    if start < 0:
        raise ConfigError(
            f"{home.supervisord_conf} has no section [program:worker]",
            f"Remove the file and make it anew with: autopoll init '{home.root}'",
        )
    end = text.find("\n[", start)
    lines = text[start : end if end > 0 else len(text)].splitlines()
    return "\n".join(line for line in lines if not line.startswith(";")).strip() + "\n"
