"""Databases of our programs: `open_database(url)`, SQLite by default, PostgreSQL when told."""

from runtime.store.database import insert_new, open_database, reading, sqlite_url, writing

__all__ = ["insert_new", "open_database", "reading", "sqlite_url", "writing"]
