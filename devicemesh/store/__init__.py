"""Where resources live: SQLite with no cluster, the API server with one."""
