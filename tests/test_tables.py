"""Tables of text."""

from __future__ import annotations

from nanograd_gpt.tables import aligned


def test_the_first_column_is_on_the_left_and_numbers_are_on_the_right() -> None:
    assert aligned([["a", "1", "x"], ["long", "100", "y"]]) == ["a       1  x", "long  100  y"]


def test_columns_of_words_are_on_the_left_and_lines_have_no_spaces_at_their_end() -> None:
    assert aligned([["1", "a", "b"], ["100", "long", ""]], left=[1, 2]) == ["  1  a     b", "100  long"]
