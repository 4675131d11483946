"""alembic migrations of the store."""
