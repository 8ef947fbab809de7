"""Tools as they were accepted: their descriptions and schemas, pinned by hash."""
