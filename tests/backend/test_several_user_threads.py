"""Several user threads that compute at once: each gets the bits that it would get alone.

In processes of their own, in which the matrix library has several threads.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nanograd_gpt.backend.cpu import threads

pytestmark = pytest.mark.skipif(
    not threads.blas_threads_controllable(), reason="this matrix library cannot be told a thread number"
)

COMMON = """
import os, signal, threading, time, warnings
import numpy as np
from nanograd_gpt import AdamW, GPTModel, Tensor, no_grad
from nanograd_gpt.backend.cpu import threads
from nanograd_gpt.generation.generate import generate_text
from nanograd_gpt.optim import clip_grad_norm
from nanograd_gpt.rng import Generator

def training(seed, channels=256, updates=1):
    "Losses, gradients and weights of a small training: its products are cut, or left to the library"
    config = {"vocab_size": 300, "context_length": 128, "emb_dim": channels, "n_heads": 4, "n_layers": 1}
    model = GPTModel(config | {"drop_rate": 0.1}, rng=Generator(seed))
    optimizer, ids = AdamW(model.parameters()), np.random.default_rng(seed).integers(0, 300, (2, 129))
    results = []
    for _ in range(updates):
        optimizer.zero_grad()
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        results += [loss.data.copy(), optimizer.flat.grad.copy(), clip_grad_norm(optimizer.parameters, 0.01)]
        optimizer.step()
        results.append(optimizer.flat.data.copy())
    return b"".join(np.asarray(a).tobytes() for a in results)

def product(seed):
    "Plain matrix products, with their gradients: of sizes at which the library's bits depend on its threads"
    rng = np.random.default_rng(seed)
    x, y = (Tensor(rng.standard_normal((300, 300)).astype(np.float32), requires_grad=True) for _ in range(2))
    z = x @ y
    z.sum().backward()
    return z.data.tobytes() + x.grad.tobytes() + y.grad.tobytes()

def writing(seed):
    config = {"vocab_size": 300, "context_length": 128, "emb_dim": 256, "n_heads": 4, "n_layers": 1}
    model = GPTModel(config | {"drop_rate": 0.0}, rng=Generator(seed))
    with no_grad():
        logits = model(np.arange(100)[None]).data
    return logits.tobytes() + generate_text(model, np.arange(20)[None], 4, 128).tobytes()

def at_once(jobs):
    results, start = [None] * len(jobs), threading.Barrier(len(jobs))
    def work(k):
        start.wait()
        results[k] = jobs[k]()
    team = [threading.Thread(target=work, args=(k,)) for k in range(len(jobs))]
    for thread in team: thread.start()
    for thread in team: thread.join(60)
    assert not any(thread.is_alive() for thread in team), "a thread waits for ever"
    return results

def library():
    return threads._blas()[0].get_num_threads()
"""


def output(code: str, number: int = 2) -> str:
    variables = {"NANOGRAD_THREADS": str(number), "OPENBLAS_NUM_THREADS": str(number), "OMP_NUM_THREADS": str(number)}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", COMMON + code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **variables},
    )
    return (done.stdout + done.stderr).strip()


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("at_once", [2, 4])
def test_a_training_beside_others_has_the_bits_it_has_alone(at_once: int, number: int) -> None:
    code = f"""
jobs = [lambda k=k: training(k, channels=(256, 160)[k // 2 % 2], updates=2) for k in range({at_once})]
alone = [job() for job in jobs]
print(at_once(jobs) == alone, library())
"""
    assert set(output(code, number).splitlines()) == {f"True {number}"}


def test_every_kind_of_product_beside_sections_of_one_thread_has_the_bits_it_has_alone() -> None:
    code = """
jobs = [lambda: [product(k) for k in range(5)], lambda: training(1), lambda: [writing(k) for k in range(2)]]
alone = [job() for job in jobs]
for _ in range(3):
    print(at_once(jobs) == alone, library())
"""
    assert set(output(code).splitlines()) == {"True 2"}


def test_many_short_sections_of_both_kinds_exclude_each_other_and_nobody_waits_for_ever() -> None:
    code = """
wrong, errors = [], []
def hammer(k):
    def check(expected):
        time.sleep(0)  # let others in
        if library() != expected:
            wrong.append(library())
        if rng.random() < 0.1:
            raise ZeroDivisionError
    def nested():
        threads.with_single_blas_thread(lambda: check(1))
        threads.with_blas_threads(lambda: check(1))  # kept to one by whom it is nested in
        threads.parallel_for(range(3), lambda _: check(1))
        check(1)
    rng = np.random.default_rng(k)
    for _ in range(400):
        try:
            if rng.random() < 0.5:
                threads.with_blas_threads(lambda: check(2))
            else:
                threads.with_single_blas_thread(nested)
        except ZeroDivisionError as error:
            errors.append(error)
at_once([lambda k=k: hammer(k) for k in range(6)])
print(wrong, len(errors) > 100, library())
"""
    assert output(code) == "[] True 2"


def test_a_number_chosen_while_others_compute_waits_for_what_they_have_begun() -> None:
    code = """
torn, ended = [], threading.Event()
def compute():
    def look():
        before = library()
        time.sleep(0.0003)
        if library() != before:
            torn.append((before, library()))
    while not ended.is_set():
        threads.with_blas_threads(look)
        threads.with_single_blas_thread(look)
def choose():
    for k in range(150):
        threads.set_threads(k % 3 + 1)
        if library() not in (1, k % 3 + 1):
            torn.append(k)
    ended.set()
at_once([choose, compute, compute, compute])
threads.set_threads(2)
print(torn, threads.n_threads(), library())
"""
    assert output(code) == "[] 2 2"


def test_a_number_chosen_while_one_thread_computes_waits_for_it_and_nobody_waits_for_ever() -> None:
    code = """
torn, ended = [], threading.Event()
def compute():
    def look(_):
        if library() != 1:
            torn.append(library())
        time.sleep(2e-4)
    while not ended.is_set():
        threads.with_single_blas_thread(lambda: [threads.parallel_for(range(4), look) for _ in range(4)])
        threads.parallel_for(range(4), look)
def choose():
    for _ in range(100):
        threads.set_threads(1)
        time.sleep(0.004)
        threads.set_threads(3)
    ended.set()
at_once([choose, compute, compute, compute])
print(torn, threads.n_threads(), library())
"""
    assert output(code, 3) == "[] 3 3"


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform == "win32", reason="the test interrupts itself by SIGALRM, which Windows does not have"
)
@pytest.mark.parametrize("number", [1, 2])
def test_ctrl_c_at_any_moment_leaves_nobody_waiting_and_the_library_as_it_was(number: int) -> None:
    code = """
alone, interrupts = training(1), 0
others_ended = threading.Event()
def others():
    while not others_ended.is_set():
        assert training(2, channels=32) == expected
expected = training(2, channels=32)
other = threading.Thread(target=others)
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
other.start()
end = time.monotonic() + 3
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.004 * (interrupts % 97) / 97)
        while True:
            threads.with_single_blas_thread(lambda: None)
            threads.with_blas_threads(lambda: None)
            product(0)
    except KeyboardInterrupt:
        interrupts += 1
signal.setitimer(signal.ITIMER_REAL, 0)
others_ended.set()
other.join(20)
same = training(1) == alone and at_once([lambda: training(1)]) == [alone]
print(interrupts > 20, other.is_alive(), same, library() == threads.n_threads())
"""
    assert output(code, number) == "True False True True"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_forked_while_another_thread_computes_is_free() -> None:
    code = """
warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # from 3.12 on, Python warns of these forks
ended = threading.Event()
def compute():
    while not ended.is_set():
        threads.with_single_blas_thread(lambda: time.sleep(0.001))
other = threading.Thread(target=compute)
other.start()
codes = []
for _ in range(20):
    child = os.fork()
    if not child:
        signal.alarm(30)
        free = library() == 2
        threads.parallel_for(range(4), lambda _: None)
        threads.with_blas_threads(lambda: None)
        threads.set_threads(1)
        os._exit(0 if free else 1)
    codes.append(os.waitpid(child, 0)[1])
ended.set()
other.join()
print(set(codes))
"""
    assert output(code) == "{0}"
