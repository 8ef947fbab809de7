"""Sessions of MCP, each bound to who opened it."""
