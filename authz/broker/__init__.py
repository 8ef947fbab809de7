"""Who may act for whom: tasks, their identities, and delegation tokens."""
