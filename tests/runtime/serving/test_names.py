"""Names that strangers send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidInputError
from runtime.serving.names import check_name


@pytest.mark.parametrize("name", ["digits", "my model (2)", "größe", "a.b-c_d", "...a", "x" * 255])
def test_names_that_may_be(name: str) -> None:
    check_name(name, "12")


@pytest.mark.parametrize("name", ["", ".", "..", "...", "a/b", "..\\x", "a\0", "a\nb", "\x7f", "a\ud800", "x" * 256])
def test_names_that_may_not(name: str) -> None:
    with pytest.raises(InvalidInputError):
        check_name(name)


@pytest.mark.parametrize("version", ["1/2", "a b", "\n", "1\n", "9" * 65])
def test_versions_that_may_not(version: str) -> None:
    with pytest.raises(InvalidInputError, match="model version"):
        check_name("digits", version)


@given(st.text())
def test_a_name_that_passes_is_one_folder_deep(name: str) -> None:
    try:
        check_name(name)
    except InvalidInputError:
        return
    assert "/" not in name
    assert "\0" not in name
    assert name not in (".", "..")
