"""Kuadrant's `x-mcp-authorized`: the names that a caller could use, told to a gateway that makes lists."""
