"""The scenario that `make demo` runs: real Envoy, real MCP servers and clients, a real OpenID Provider."""
