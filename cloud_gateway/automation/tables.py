"""Tables of automation: standings by model and segment, what was served, people's items and opinions, labels, and the log."""

from __future__ import annotations

from sqlalchemy import DDL, JSON, Boolean, Column, Float, ForeignKey, Integer, MetaData, String, Table, Text, event

TABLES = MetaData()

STANDINGS = Table(
    "automation_standings",
    TABLES,
    Column("model", String(256), primary_key=True),
    Column("segment", String(128), primary_key=True),
    Column("state", JSON, nullable=False),
)
# One row for every request that automation answered or put before a person: what labels may refer to.
SERVED = Table(
    "automation_requests",
    TABLES,
    Column("model", String(256), primary_key=True),
    Column("request_id", String(256), primary_key=True),
    Column("version", String(32), nullable=False),
    Column("segment", String(128), nullable=False),
    Column("at", Float, nullable=False, index=True),
    Column("rows", Integer, nullable=False),
    Column("suggestion", JSON(none_as_null=True)),
    Column("confidence", Float),
    Column("decided_by", String(32), nullable=False),
    Column("label", JSON(none_as_null=True)),
    Column("label_source", String(128)),
    Column("labelled_at", Float),
)
# Of the rows of a request, what labels are sorted by later: how sure the model was, in which bins the inputs lay.
ROW_DETAILS = Table(
    "automation_row_details",
    TABLES,
    Column("model", String(256), primary_key=True),
    Column("request_id", String(256), primary_key=True),
    Column("at", Float, nullable=False, index=True),
    Column("details", JSON, nullable=False),
)
# What each arm of a release said to a request: what a label turns into losses for the release's guards.
ARM_ANSWERS = Table(
    "release_answers",
    TABLES,
    Column("model", String(256), primary_key=True),
    Column("request_id", String(256), primary_key=True),
    Column("release", Integer, primary_key=True),
    Column("arm", String(16), primary_key=True),
    Column("segment", String(128), nullable=False),
    Column("answer", JSON, nullable=False),
    Column("at", Float, nullable=False, index=True),
)
# Labels that came whole, in the order in which they did: what guards of releases read, wherever they were told.
WHOLE_LABELS = Table(
    "release_labels",
    TABLES,
    # Never given twice, also after the newest rows are gone: whoever has read up to one goes on behind it.
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("model", String(256), nullable=False),
    Column("request_id", String(256), nullable=False),
    Column("at", Float, nullable=False, index=True),
    sqlite_autoincrement=True,
)
ITEMS = Table(
    "review_items",
    TABLES,
    Column("id", String(32), primary_key=True),
    Column("model", String(256), nullable=False),
    Column("request_id", String(256), nullable=False),
    Column("segment", String(128), nullable=False),
    Column("at", Float, nullable=False, index=True),
    Column("level", String(16), nullable=False),
    Column("why", String(32), nullable=False),
    Column("is_blind", Boolean, nullable=False),
    Column("wants", Integer, nullable=False),
    Column("opinions", Integer, nullable=False, default=0),
    Column("summary", Text, nullable=False),
    Column("input_reference", String(1024), nullable=False),
)
# What an item's input looks like, while somebody is still to answer it; then it goes.
EXHIBITS = Table(
    "review_exhibits",
    TABLES,
    Column("item", String(32), ForeignKey("review_items.id"), primary_key=True),
    Column("document", JSON, nullable=False),
)
OPINIONS = Table(
    "review_opinions",
    TABLES,
    Column("item", String(32), ForeignKey("review_items.id"), primary_key=True),
    Column("reviewer", String(128), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("answer", JSON, nullable=False),
    Column("at", Float, nullable=False),
)
LOG = Table(
    "automation_log",
    TABLES,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("model", String(256), nullable=False),
    Column("segment", String(128), nullable=False),
    Column("event", String(32), nullable=False),
    Column("document", JSON, nullable=False),
)

# What happened stays written down: also a mistake in our own code must not change it.
for _statement in (
    "create or replace function automation_log_refuses() returns trigger language plpgsql as "
    "$$ begin raise exception 'the log of automation is append-only'; end $$",
    "create trigger automation_log_refuses before update or delete or truncate on automation_log "
    "for each statement execute function automation_log_refuses()",
):
    event.listen(LOG, "after_create", DDL(_statement).execute_if(dialect="postgresql"))  # type: ignore[no-untyped-call]
for _change in ("update", "delete"):
    _trigger = (
        f"create trigger if not exists automation_log_no_{_change} before {_change} on automation_log "
        f"begin select raise(abort, 'the log of automation is append-only'); end"
    )
    event.listen(LOG, "after_create", DDL(_trigger).execute_if(dialect="sqlite"))  # type: ignore[no-untyped-call]
