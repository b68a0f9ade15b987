"""The deep dives run alone, print their numbers, save their figures, and fail if a claim does not hold."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from _two_ranks import missing_mpi
from cusim.checks import needs_compiler
from matplotlib.image import imread
from strict_process import run_file
from svg_text import PHONE, smallest_text

from nanograd_gpt.backend.cpu.threads import n_threads, set_threads
from nanograd_gpt.viz.plots import new_figure

SCRIPTS = Path(__file__).parents[2] / "scripts"
DIVES = {
    "01_backpropagation": ["24.7041", "138.8338", "645.5773", "27 nodes"],
    "02_gradient_microscope": ["forward: as h^1.0", "central: as h^2.0", "complex step: as h^2.0", "Richardson: as h^"],
    "03_break_the_gradient": ["tanh: through float32", "miss 6 of 7", "is above 1e-12", "central agrees to 1e-"],
    "04_tokens_and_windows": ["1015 times", "11 tokens: My| grandmother", "'A Thumb a Day' -> '\\n'", "1292 windows"],
    "05_loss_from_scratch": ["7.4541e-05", "-9.5042", "10.7940", "48725", "10.8249"],
    "06_attention_anatomy": ["questions such as '", "gives the library's weights", "by chance: 25%", "9 claims"],
    "07_layernorm_and_gelu": ["6 of 8 directions", "one node for 10", "at most 4.7e-04", "steepest 1.129 at 1.42"],
    "08_adamw_by_hand": ["29,888 weights", "decoupled decay", "L2 penalty", "first move 3.16", "1.0e-03 after 36"],
    "09_signal_propagation": ["the formula says 1.41", "too large, 0.5", "log 385 = 5.953", "350,208 weights"],
    "10_learning_to_write": ["epoch 0.00    0% grammatical", "story: validation loss", "six moments (6 claims)"],
    "11_choosing_a_token": ["greedy: forward", "top-p 0.9", "toward 0.3", "the dog barks", "the cat sleeps"],
    "12_where_the_time_goes": ["1,491,840 parameters", "linear_backward", "the engine's own Python", "at best: "],
    "13_where_the_memory_goes": ["backward, block 0", "22.76 MiB", "by hand 5.330 MiB", "large vocabulary"],
    "14_is_it_gpt2": ["random weights: 28 arrays", "(50257, 48)", "all 36 parameters", "11 tokens (6 claims)"],
    "15_data_parallel": ["finds nothing", "a parameter", "the loader's random stream", "17 MB summed in one"],
    "learning_or_memorising": ["story: 32,230 characters", "grammatical  consistent  copies"],
    "an_attention_kernel": ["8,256 pairs", "fewer bytes", "try this"],
}

MEASURED = {"12_where_the_time_goes", "13_where_the_memory_goes", "15_data_parallel"}  # which differ from run to run
LONG = {"06_attention_anatomy", "09_signal_propagation", "10_learning_to_write", "learning_or_memorising"}  # trainings
NEEDS = {
    "15_data_parallel": pytest.mark.skipif(missing_mpi() is not None, reason=str(missing_mpi())),
    "an_attention_kernel": needs_compiler,
}


def run(script: Path, out: Path, backend: str = "agg") -> subprocess.CompletedProcess[str]:
    command, env = run_file(script, "--fast", "--out", out), {**os.environ, "MPLBACKEND": backend}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, cwd=out, env=env)


def run_here(source: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run a script's text in this process, as a script; returns its exit code."""
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setattr("sys.argv", ["script.py", *arguments])
    threads = n_threads()
    try:
        exec(compile(source, "script.py", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        return int(str(end.code))
    finally:
        set_threads(threads)  # of which 09 takes one
    return 0


def replaced(source: str, right: str, wrong: str) -> str:
    assert source.count(right) == 1
    return source.replace(right, wrong)


def test_every_deep_dive_is_here() -> None:
    assert sorted(DIVES) == sorted(
        [*(path.stem for path in SCRIPTS.glob("[0-9]*.py")), "an_attention_kernel", "learning_or_memorising"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS.get(name, ())) for name in DIVES])
def test_it_holds(name, tmp_path):
    done = run(SCRIPTS / f"{name}.py", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("checked: ")
    assert "FAILS" not in done.stdout
    for number in DIVES[name]:
        assert number in done.stdout
    files = [f"{name}.svg", f"{name}_narrow.svg"] if name.startswith("01") else [f"{name}.png", f"{name}.svg"]
    page = [f"{name}.html"] if name.startswith("01") else []
    assert sorted(tmp_path.iterdir()) == [tmp_path / file for file in [*page, *files]]
    svg = (tmp_path / files[-1]).read_text(encoding="utf-8")
    assert svg.count("prefers-color-scheme") == 1
    if name.startswith("01"):
        assert float(ET.fromstring(svg).attrib["width"]) <= PHONE, "text of 12 pixels is not scaled"
    else:
        assert smallest_text(svg) >= 11
        assert_nothing_is_cut(tmp_path / files[0])
    if name not in MEASURED | LONG:
        assert_equal_with_a_foreign_backend(name, tmp_path, files)


def assert_equal_with_a_foreign_backend(name: str, once: Path, files: list[str]) -> None:
    again = once / "again"
    again.mkdir()
    assert run(SCRIPTS / f"{name}.py", again, backend="nonsense").returncode == 0
    assert [file for file in files if (again / file).read_bytes() != (once / file).read_bytes()] == []


def assert_nothing_is_cut(png: Path) -> None:
    """The outermost pixels of a picture are its paper."""
    pixels = imread(png)
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 1).all()


def test_a_figure_has_a_title_and_its_legend_covers_no_curve(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(SCRIPTS)
    dive = importlib.import_module("_deep_dive").DeepDive("x", ["--out", str(tmp_path)])
    figure = new_figure(4)
    for axes in figure.subplots(2):
        axes.plot([1, 2], [2, 1], label="a curve")
    dive.save(figure, "figure", "What to see")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a curve"] * 2
    for axes in figure.axes:
        assert not legend.get_window_extent().overlaps(axes.get_tightbbox())
    assert "<!-- What to see -->" in (tmp_path / "figure.svg").read_text(encoding="utf-8")


def test_a_wrong_number_exits_with_1(tmp_path):
    source = (SCRIPTS / "01_backpropagation.py").read_text(encoding="utf-8")
    for name in ("_deep_dive.py", "_one_line.py", "_steps_page.py"):
        shutil.copy(SCRIPTS / name, tmp_path)
    script = tmp_path / "script.py"
    script.write_text(replaced(source, "24.7041, 138.8338, 645", "24.7041, 138.8339, 645"), encoding="utf-8")
    done = run(script, tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "[FAILS] dg/da = 138.8339" in done.stdout
    assert done.stdout.splitlines()[-1] == "failed: 1 of 7 claims do not hold"


BROKEN = [  # a script, a change, and the claim that must fail
    ("01_backpropagation", 'v["g"] = f / 2.0', 'v["g"] = f / 2.0001', "g = 24.7041"),
    ("01_backpropagation", 'n["operands"], n["passed"]', 'n["operands"], n["passed"][::-1]', "each node's gradient"),
    ("02_gradient_microscope", "loss(x).backward()", "(loss(x) * (1 + 1e-13)).backward()", "complex step, at any"),
    ("03_break_the_gradient", 'np.tanh(x) ** 2), ""', 'np.tanh(x) ** 3), ""', "tanh, right: found by none"),
    ("03_break_the_gradient", "1e-5 + 1e-3 * abs(n)", "1e-9 * abs(n)", "torch's default tolerances"),
    ("03_break_the_gradient", "method=method", "method=method, tolerance=1", "check_gradients refuses it"),
    ("04_tokens_and_windows", "(-counts[pair], pair)", "(-counts[pair], pair[::-1])", "the first 32 merges are"),
    (
        "04_tokens_and_windows",
        "loader = create_dataloader_v1(text, BATCH, T, stride=T,",
        "loader = create_dataloader_v1(text, BATCH, T, stride=T + 1,",
        "with a stride of T",
    ),
    ("05_loss_from_scratch", "[7.4541e-05", "[7.4551e-05", "log 7.4541e-05 = -9.5042"),
    ("05_loss_from_scratch", "expected = (softmax - one_hot) / N", "expected = softmax / N", "gradient = (softmax"),
    ("05_loss_from_scratch", "curve = -probability.log()", "curve = -probability.exp()", "with respect to p it is"),
    ("06_attention_anatomy", "/ np.sqrt(D)", "/ np.sqrt(D + 0.01)", "the formula gives the library's weights"),
    ("06_attention_anatomy", "np.fill_diagonal(changed, ", "np.fill_diagonal(changed[1:], ", "a changed token leaves"),
    ("06_attention_anatomy", "(500, 40)", "(2, 8)", "the best head gives the deciding place"),
    ("07_layernorm_and_gelu", "np.eye(C) - 1 / C -", "np.eye(C) -", "all agree with the formula"),
    ("07_layernorm_and_gelu", "return 0.5 * x * (1", "return 0.5001 * x * (1", "GELU: the same to"),
    ("07_layernorm_and_gelu", '"GELU", book_gelu, F.gelu', '"GELU", F.gelu, F.gelu', "GELU: one node for 1"),
    ("08_adamw_by_hand", "g = g + number(l2) * p", "g = g + number(l2 + 1e-7) * p", "by hand and by the package"),
    ("08_adamw_by_hand", "1 - BETA1**t) if", "1 - BETA1) if", "corrected, each move is 1"),
    ("08_adamw_by_hand", "decay=decay, l2=l2)", "decay=decay)", "and those of small gradients"),
    ("08_adamw_by_hand", "(k + 1) / WARM_UP", "(k + 2) / WARM_UP", "warm-up and cosine"),
    ("09_signal_propagation", "np.sqrt(gain / WIDTH)", "np.sqrt(1.2 * gain / WIDTH)", "a layer multiplies by"),
    ("09_signal_propagation", '"too large, 0.5": 0.5', '"too large, 0.5": 0.05', "good weights start close to it"),
    (
        "10_learning_to_write",
        "tales_that_ask() if dive.fast else (None, {})",
        '(None, {"max_steps": 3, "warmup_steps": 1})',
        "in the end",
    ),
    ("11_choosing_a_token", "n_beams=2", "n_beams=1", "beam search finds the likeliest"),
    ("11_choosing_a_token", '"barks": 0.4', '"barks": 4', "greedy decoding misses it"),
    ("12_where_the_time_goes", "100_000_000, 0.10", "100_000_000, 0.0", "it takes less than 0%"),
    ("12_where_the_time_goes", '.endswith("_backward")', '.endswith("x_backward")', "backward multiplies twice"),
    ("13_where_the_memory_goes", "state = 4 * 4 *", "state = 4 * 3 *", "that is what is in use before"),
    ("13_where_the_memory_goes", '"norm2: its input": C', '"norm2: its input": 0', "each block saves that"),
    ("13_where_the_memory_goes", "memory_bytes(sizes, batch", "memory_bytes(sizes, 2 + batch", "each is predicted"),
    (
        "14_is_it_gpt2",
        "np.split(part, 3, axis=-1)[m",
        "np.split(part, 3, axis=-1)[-m",
        "all 36 parameters of the model",
    ),
    ("14_is_it_gpt2", "0.044715 * a", "0.045 * a", "logits: "),
    ("14_is_it_gpt2", "/ np.sqrt(q.shape[-1])", "/ np.sqrt(q.shape[-1] + 0.01)", "attention weights: "),
    ("14_is_it_gpt2", "ids[None], T - 1)", "ids[None], T - 2)", "backward agrees with central differences"),
    ("15_data_parallel", "RIGHT: RIGHT,", "RIGHT: SAME_MASK,", "two ranks have the losses of one process"),
]

UNTRAINED = {  # where a claim does not depend on what a training learns, few updates will do
    "06_attention_anatomy": ("(500, 40)", "(2, 8)"),
    "09_signal_propagation": ("40 if dive.fast", "2 if dive.fast"),
    "10_learning_to_write": ('{"epochs": 16, "n_layers": 2}', '{"epochs": 1, "n_layers": 2}'),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "right", "wrong", "claim"),
    [pytest.param(*row, marks=NEEDS.get(row[0], ()), id=f"{row[0][:2]} {row[3][:12]}") for row in BROKEN],
)
def test_each_claim_can_fail(name, right, wrong, claim, tmp_path, monkeypatch, capsys):
    source = replaced((SCRIPTS / f"{name}.py").read_text(encoding="utf-8"), right, wrong)
    if name in UNTRAINED and right != UNTRAINED[name][0]:
        source = replaced(source, *UNTRAINED[name])
    assert run_here(source, monkeypatch, "--fast", "--out", str(tmp_path)) == 1
    shown = capsys.readouterr().out
    assert f"[FAILS] {claim}" in shown
    assert shown.splitlines()[-1].startswith("failed: ")


def test_every_numbered_script_is_broken_once() -> None:
    assert {name for name, *_ in BROKEN} == {name for name in DIVES if name[0].isdigit()}


def test_no_claim_at_all_is_a_failure(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run_here('from _deep_dive import DeepDive\nDeepDive("x").end("nothing")', monkeypatch) == 1


def test_in_a_notebook_it_ignores_the_command_line_and_a_failed_claim_ends_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("builtins.__IPYTHON__", True, raising=False)
    monkeypatch.chdir(tmp_path)
    source = (SCRIPTS / "01_backpropagation.py").read_text(encoding="utf-8")
    wrong = replaced(source, "24.7041, 138.8338, 645", "24.7041, 138.8339, 645")
    assert run_here(f"{wrong}\nprint('the next cell')", monkeypatch, "-f", "kernel.json", "--fast") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[-2:] == ["failed: 1 of 7 claims do not hold", "the next cell"]
    assert (tmp_path / "runs" / "deep_dives" / "01_backpropagation.svg").exists()
