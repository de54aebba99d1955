"""Databases of our programs: `open_database(url)`, SQLite by default, PostgreSQL when told; `Changes` by others; `check_text`."""

from runtime.store.changes import Changes, announce
from runtime.store.database import insert_new, open_database, reading, setting_up, sqlite_url, writing
from runtime.store.texts import check_text, check_texts, kept_text

__all__ = [
    "Changes",
    "announce",
    "check_text",
    "check_texts",
    "insert_new",
    "kept_text",
    "open_database",
    "reading",
    "setting_up",
    "sqlite_url",
    "writing",
]
