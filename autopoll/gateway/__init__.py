"""The front doors for programs and agents: REST and MCP, over the same use-cases as the CLI."""
