"""What keeps the real Claude Code CLI to itself: a home of its own, and a service on loopback."""

from pathlib import Path

KEY = "sk-ant-mock-0123456789abcdef"


def account(folder: Path, url: str) -> dict[str, str]:
    """Return the variables under which the CLI reaches nothing but the service at that address."""
    for name in ("user", "user/.claude", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    return {
        "HOME": str(folder / "user"),
        "CLAUDE_CONFIG_DIR": str(folder / "user" / ".claude"),
        "TMPDIR": str(folder / "tmp"),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": KEY,
    }
