"""Approvals: what a person has to agree to before it happens, asked for call by call."""
