"""Databases of our programs: `open_database(url)`, SQLite by default, PostgreSQL when told."""

from runtime.store.database import open_database, reading, sqlite_url, writing

__all__ = ["open_database", "reading", "sqlite_url", "writing"]
