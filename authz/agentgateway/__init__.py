"""agentgateway's ExtMcp: MCP messages that a gateway has read already, decided by the one flow."""
