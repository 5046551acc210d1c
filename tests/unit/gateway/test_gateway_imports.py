"""What parts of the gateway are loaded without."""

import subprocess
import sys


def loaded_by(module: str) -> list[str]:
    code = f"import {module}, sys; print(*sys.modules)"
    return subprocess.check_output([sys.executable, "-c", code], text=True).split()


def test_mcp_over_stdio_is_served_without_fastapi_and_without_rest() -> None:
    loaded = loaded_by("autopoll.gateway.mcp.stdio")
    assert "autopoll.gateway.mcp.mcp_server" in loaded
    unwanted = ("fastapi", "prometheus_client", "autopoll.gateway.rest", "autopoll.gateway.app")
    assert [each for each in loaded if each.startswith(unwanted)] == []


def test_tokens_are_proven_and_connections_admitted_whatever_server_carries_them() -> None:
    for module in ("autopoll.gateway.auth_middleware", "autopoll.gateway.admission"):
        loaded = loaded_by(module)
        assert module in loaded
        assert [each for each in loaded if each.startswith(("uvicorn", "h11"))] == []
