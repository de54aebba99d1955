"""A key by identity."""

from runtime.bundle.same import Same


def test_the_same_objects_are_the_same_key_and_equal_ones_are_not() -> None:
    one, other = [1], [1]
    assert Same(one, other) == Same(one, other)
    assert hash(Same(one, other)) == hash(Same(one, other))
    assert Same(one) != Same(other)
    assert Same(one, other) != Same(other, one)
    assert Same(one) != (id(one),)
