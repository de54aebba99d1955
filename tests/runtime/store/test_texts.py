"""Texts of callers: what a real database would refuse is refused before, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Engine, MetaData, Table, Text, insert, select

from runtime.errors import InvalidInputError
from runtime.store import check_text, check_texts, kept_text, open_database, writing
from tests import postgresql

TEXTS = Table("texts", MetaData(), Column("text", Text, nullable=False))


@pytest.mark.parametrize("text", ["a\0", "\ud800b", "b\udfff"], ids=ascii)
def test_what_is_refused_is_named_with_its_place(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^the id is .* at [01], which no database keeps; leave it out$"):
        check_text(text, "the id")
    assert check_text(kept_text(text), "the id").count("\ufffd") == 1
    for document in ({"a": [{"b": text}]}, {text: 1}, [[text]]):
        with pytest.raises(InvalidInputError, match="^a text in the body is"):
            check_texts(document, "the body")


def test_length_is_counted_in_characters() -> None:
    assert check_text("ü" * 4, "the id", 4) == "üüüü"
    with pytest.raises(InvalidInputError, match="the id has 5 characters; expected 4 at most"):
        check_text("ü" * 5, "the id", 4)


def test_a_document_of_other_texts_passes() -> None:
    check_texts({"a": ["ü\n\x7f\U0001f600", None, 1.5, True], "": {}}, "the body")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "sqlite":
        yield open_database("sqlite://")
        return
    if (reason := postgresql.why_not()) is not None:
        pytest.skip(reason)
    with postgresql.server() as server:
        engine = open_database(server.new_database("texts"))
        yield engine
        engine.dispose()


@pytest.mark.slow
@given(text=st.text(st.characters(exclude_categories=())) | st.text("\0\ud800\udfff\ufffd\x7fa"))
def test_a_database_keeps_whatever_passes(database: Engine, text: str) -> None:
    with writing(database) as connection:
        TEXTS.create(connection, checkfirst=True)
        connection.execute(insert(TEXTS).values(text=check_text(kept_text(text), "it")))
        assert connection.execute(select(TEXTS.c.text)).all() == [(kept_text(text),)]
        connection.rollback()
