"""The store: SQLAlchemy Core tables, migrations, units of work and the group-commit writer."""
