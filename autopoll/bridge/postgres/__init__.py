"""The engine on a PostgreSQL server, which several hosts can share."""
