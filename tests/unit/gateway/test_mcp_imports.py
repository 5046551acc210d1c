"""What is loaded to serve MCP over stdin and stdout."""

import subprocess
import sys


def test_mcp_over_stdio_is_served_without_fastapi_and_without_rest() -> None:
    code = "import autopoll.gateway.mcp.stdio, sys; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "autopoll.gateway.mcp.mcp_server" in loaded
    unwanted = ("fastapi", "prometheus_client", "autopoll.gateway.rest", "autopoll.gateway.app")
    assert [each for each in loaded if each.startswith(unwanted)] == []
