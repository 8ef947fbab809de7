"""Servers that move bytes between a transport and the flow."""
