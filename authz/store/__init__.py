"""What survives a restart: the registry of agents and their tasks."""
