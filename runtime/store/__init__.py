"""Databases of our programs: `open_database(url)`, SQLite by default, PostgreSQL when told; `Changes` by others."""

from runtime.store.changes import Changes, announce
from runtime.store.database import insert_new, open_database, reading, setting_up, sqlite_url, writing

__all__ = ["Changes", "announce", "insert_new", "open_database", "reading", "setting_up", "sqlite_url", "writing"]
