"""Flags for which a thread waits without the GIL."""

from __future__ import annotations

from threading import Thread
from time import monotonic, sleep

import numpy as np

from nanograd_gpt.backend.cpu.spinning import FLAG, TRUE, UNUSED, new_lines, repeated, spin, times_in

LONG = 30.0  # seconds: a wait that nothing ends fails the test


def test_a_wait_ends_when_another_thread_sets_the_flag() -> None:
    flags, seen = np.zeros(1, dtype=bool), np.zeros(1, dtype=bool)

    def set_soon() -> None:  # it needs the GIL, which a thread that waits does not hold
        sleep(0.02)
        flags[0] = True

    other = Thread(target=set_soon)
    other.start()
    spin(repeated(flags, times_in(LONG)), seen)
    other.join()
    assert seen[0]


def test_a_wait_for_a_flag_that_nobody_sets_ends() -> None:
    seen = np.ones(1, dtype=bool)
    spin(repeated(np.zeros(1, dtype=bool), 1000), seen)
    assert not seen[0]


def test_flags_are_set_before_the_wait_begins() -> None:
    ours, theirs = new_lines(2)
    other = Thread(target=spin, args=(repeated(theirs[TRUE : FLAG + 1], times_in(LONG)), ours[FLAG : UNUSED + 1]))
    other.start()
    end = monotonic() + LONG / 2
    while not ours[FLAG]:
        assert monotonic() < end, "the flag is not set while the thread waits"
    assert not ours[UNUSED]
    theirs[FLAG] = True
    other.join()
    assert ours[UNUSED]


def test_lines_are_in_different_cache_lines_and_their_first_byte_is_true() -> None:
    lines = new_lines(3)
    assert lines.tolist() == [[True, False, False]] * 3
    assert lines.strides[0] >= 64


def test_repetitions_take_about_the_time_asked_for() -> None:
    assert times_in(1e-3) > 20 * times_in(1e-5)
