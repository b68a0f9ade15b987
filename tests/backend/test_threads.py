"""The number of compute threads, the thread pool, and BLAS limited to one thread while the pool works."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from nanograd_gpt.backend.cpu import threads
from nanograd_gpt.backend.cpu.pool import ThreadPool
from nanograd_gpt.backend.cpu.threads import parallel_for, with_single_blas_thread
from nanograd_gpt.errors import InputError


@pytest.fixture(autouse=True)
def _number_as_before() -> Iterator[None]:
    before = threads.n_threads(), blas_threads()
    yield
    threads.set_threads(before[0])
    for library, number in zip(threads._blas(), before[1], strict=True):
        library.set_num_threads(number)


def blas_threads() -> list[int]:
    return [library.get_num_threads() for library in threads._blas()]


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("n_parts", [0, 1, 2, 40])
def test_every_part_is_done_once(n_parts: int, number: int) -> None:
    threads.set_threads(number)
    done: list[int] = []
    parallel_for(range(n_parts), done.append)
    assert sorted(done) == list(range(n_parts))


def test_as_many_threads_work_at_once_as_were_chosen() -> None:
    threads.set_threads(3)
    together = threading.Barrier(3, timeout=20)  # nobody passes before all three are there
    parallel_for(range(3), lambda _: together.wait())


def test_the_first_question_is_not_answered_while_the_library_is_kept_to_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads.set_threads(3)
    monkeypatch.setattr(threads, "_n_threads", None)
    assert threads.with_single_blas_thread(threads.n_threads) == 3


def test_an_interrupt_on_the_way_in_leaves_the_library_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    threads.set_threads(3)

    class Interrupted:
        def get_num_threads(self) -> int:
            return 3

        def set_num_threads(self, number: int) -> None:
            if number == 1:
                raise KeyboardInterrupt

    before = blas_threads()
    libraries = [*threads._blas(), Interrupted()]
    monkeypatch.setattr(threads, "_blas", lambda: libraries)
    with pytest.raises(KeyboardInterrupt):
        with_single_blas_thread(lambda: None)
    monkeypatch.undo()
    assert blas_threads() == before
    assert with_single_blas_thread(blas_threads) == [1] * len(before)


def test_one_thread_is_this_one() -> None:
    threads.set_threads(1)
    names: list[str] = []
    parallel_for(range(5), lambda _: names.append(threading.current_thread().name))
    assert names == [threading.current_thread().name] * 5


@pytest.mark.parametrize("bad", [0, 1, 2, 3])
def test_an_error_in_any_part_reaches_the_caller_when_all_have_ended(bad: int) -> None:
    threads.set_threads(2)

    def body(part: int) -> None:
        if part == bad:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        parallel_for(range(4), body)
    parallel_for(range(4), lambda _: None)  # the team is whole


def test_an_error_beside_parts_shared_within_a_part_reaches_the_caller() -> None:
    threads.set_threads(2)
    caller, failed = threading.get_ident(), threading.Event()

    def body(part: int) -> None:
        if threading.get_ident() != caller:
            failed.set()
            raise ZeroDivisionError
        assert failed.wait(20)
        time.sleep(0.002)  # until the other thread could begin a job
        parallel_for(range(2), lambda _: None)

    with pytest.raises(ZeroDivisionError):
        parallel_for(range(2), body)


def test_parts_shared_within_a_part_are_done_in_place() -> None:
    threads.set_threads(2)
    done: list[tuple[int, int]] = []
    parallel_for(range(4), lambda i: parallel_for(range(3), lambda j: done.append((i, j))))
    assert sorted(done) == [(i, j) for i in range(4) for j in range(3)]


def test_the_team_sees_the_callers_errstate() -> None:
    threads.set_threads(2)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        parallel_for(range(2), lambda _: np.array([1.0]) / np.array([0.0]))


def test_the_team_keeps_no_array_alive() -> None:
    threads.set_threads(2)
    array = np.zeros(3)
    watched = weakref.ref(array)
    parallel_for(range(8), partial(np.multiply, array))
    del array
    gc.collect()
    assert watched() is None


def test_the_matrix_library_has_one_thread_within_and_its_own_number_again_after() -> None:
    if not threads.blas_threads_controllable():
        pytest.skip("this NumPy's matrix library cannot be told a number of threads")
    threads.set_threads(2)
    assert set(blas_threads()) == {2}

    def nested() -> None:
        assert set(with_single_blas_thread(blas_threads)) == {1}
        assert set(threads.with_blas_threads(blas_threads)) == {1}
        assert set(blas_threads()) == {1}

    with_single_blas_thread(nested)
    assert set(threads.with_blas_threads(blas_threads)) == {2}
    assert set(blas_threads()) == {2}
    for n_parts in (1, 4):
        seen: list[int] = []
        parallel_for(range(n_parts), lambda _, seen=seen: seen.extend(blas_threads()))
        assert set(seen) == {1}
    assert set(blas_threads()) == {2}


class Library:
    """threadpoolctl's controller of a BLAS library whose number of threads each thread has for itself."""

    filepath, threading_layer = "libblas.so", "openmp"

    def __init__(self, internal_api: str) -> None:
        self.internal_api, self.numbers = internal_api, threading.local()

    def get_num_threads(self) -> int:
        return getattr(self.numbers, "of_this_thread", 4)

    def set_num_threads(self, number: int) -> None:
        self.numbers.of_this_thread = number


@pytest.mark.parametrize("number", [1, 2, 3])
def test_each_thread_has_the_number_chosen_where_it_has_its_own(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    library, of_parts, of_products = Library("blis"), [], []
    monkeypatch.setattr(threads, "_blas", lambda: [library])
    monkeypatch.setattr(threads, "_openmp_blas", lambda: [library])
    monkeypatch.setattr(threads, "_pool", cache(lambda size: ThreadPool(size, threads._enter_section)))
    threads.set_threads(number)

    def compute() -> None:
        of_products.append(threads.with_blas_threads(library.get_num_threads))
        parallel_for(range(6), lambda _: of_parts.append(library.get_num_threads()))
        of_products.append(threads.with_blas_threads(library.get_num_threads))

    compute()
    other = threading.Thread(target=compute)
    other.start()
    other.join()
    assert of_parts == [1] * 12
    assert of_products == [number] * 4


@pytest.mark.parametrize(
    ("api", "layer", "names"),
    [
        ("mkl", "intel", ["MKL_Get_Max_Threads", "MKL_Set_Num_Threads"]),
        ("openblas", "pthreads", ["scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"]),
        ("openblas", "openmp", []),
        ("blis", "pthreads", []),
    ],
)
def test_a_number_that_all_threads_share_is_set_by_the_librarys_own_functions(
    api: str, layer: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library(api)
    library.threading_layer = layer
    own = {name: object() for name in names}
    monkeypatch.setattr(threads, "CDLL", lambda _: SimpleNamespace(**own))
    control = threads._control(library)
    if names:
        assert [control.get_num_threads, control.set_num_threads] == list(own.values())
    else:
        assert control is library


@pytest.mark.parametrize("number", ["0", "-1", "two", "1.5", "", "1025"])
def test_a_number_of_threads_out_of_range_is_refused_in_one_line(number: str) -> None:
    with pytest.raises(InputError) as error:
        threads.set_threads(number)
    assert str(error.value) == f"threads: {number!r} is not allowed; choose a whole number 1 .. 1024"


def in_a_process(code: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **variables}
    )
    return done.stdout + done.stderr


PRINT_NUMBER = "from nanograd_gpt.backend.cpu.threads import n_threads; print(n_threads())"


def test_the_environment_chooses_the_number() -> None:
    assert in_a_process(PRINT_NUMBER, NANOGRAD_THREADS="3").strip() == "3"
    assert "NANOGRAD_THREADS, an environment variable: threads: 'many' is not allowed" in in_a_process(
        PRINT_NUMBER, NANOGRAD_THREADS="many"
    )


def test_without_a_choice_there_are_as_many_as_the_matrix_library_has() -> None:
    code = (
        "from nanograd_gpt.backend.cpu import threads; print(threads.n_threads(), threads._blas()[0].get_num_threads())"
    )
    for number in ("1", "2"):
        ours, theirs = in_a_process(code, NANOGRAD_THREADS="", OMP_NUM_THREADS=number).split()
        assert ours == theirs


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_makes_a_team_of_its_own() -> None:
    code = """
import os, threading, warnings
from nanograd_gpt.backend.cpu import threads
warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # from 3.12 on, Python warns of this very fork
threads.set_threads(2)
threads.parallel_for(range(4), lambda _: None)
child = os.fork()
together = threading.Barrier(2, timeout=20)
threads.parallel_for(range(2), lambda _: together.wait())
if child:
    print(os.waitpid(child, 0)[1])
else:
    os._exit(0)
"""
    assert in_a_process(code).strip() == "0"


def test_threads_that_compute_are_counted_by_threadpoolctl_as_the_matrix_librarys_too() -> None:
    threads.set_threads(2)
    numbers: list[Any] = [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]
    assert numbers == blas_threads()
