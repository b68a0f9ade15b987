"""The figures: contents, unusual numbers, and deterministic files."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from contrast import blended, contrast
from matplotlib.ticker import MaxNLocator
from svg_text import smallest_text

from nanograd_gpt.errors import InputError
from nanograd_gpt.files import write_whole
from nanograd_gpt.viz.dark import with_dark_mode
from nanograd_gpt.viz.figure_files import save_figure
from nanograd_gpt.viz.palette import BLUE, DARK, GREEN, ORANGE, PAPER, PURPLE
from nanograd_gpt.viz.plots import (
    NARROW,
    new_figure,
    plot_losses,
    plot_perplexity,
    plot_training,
    rendered,
    style,
)

TRAIN, VAL = [9.781, 6.661, 4.417, 1.882, 0.391], [9.933, 7.048, 6.278, 6.233, 6.452]
TOKENS = [512, 10752, 20992, 31232, 44032]
EPOCHS = np.linspace(0, 10, 5)


def run_of(n: int) -> tuple[list[dict], list[dict]]:
    rng = np.random.default_rng(0)
    steps = [{"tokens": 64 * (i + 1), "loss": 5 - i / n + rng.normal(0, 0.1), "lr": 1e-3 * (i + 1)} for i in range(n)]
    evaluations = [{"tokens": s["tokens"], "train_loss": s["loss"], "val_loss": s["loss"] + 1} for s in steps[::10]]
    return steps, evaluations


def entries(figure) -> list[str]:
    """The texts of a figure's legend."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


class TestLosses:
    def test_it_is_the_books_figure(self):
        figure = plot_losses(EPOCHS, TOKENS, TRAIN, VAL)
        below, above = figure.axes
        assert figure.get_size_inches()[0] == 5
        training, validation, _ = below.lines
        np.testing.assert_array_equal(training.get_xdata(), EPOCHS)
        np.testing.assert_array_equal(training.get_ydata(), TRAIN)
        np.testing.assert_array_equal(validation.get_ydata(), VAL)
        assert (training.get_label(), validation.get_label()) == ("Training loss", "Validation loss")
        assert (training.get_linestyle(), validation.get_linestyle()) == ("-", "-.")
        assert (below.get_xlabel(), below.get_ylabel(), above.get_xlabel()) == (
            "Epochs",
            "Loss (nats per token)",
            "Tokens seen",
        )
        assert isinstance(below.xaxis.get_major_locator(), MaxNLocator)
        assert all(tick == int(tick) for tick in below.get_xticks())

    def test_the_second_axis_counts_tokens_and_is_lined_up(self):
        below, above = plot_losses(EPOCHS, TOKENS, TRAIN, VAL).axes
        (line,) = above.lines
        assert line.get_alpha() == 0
        np.testing.assert_array_equal(line.get_xdata(), TOKENS)
        left, right = above.get_xlim()
        share = (np.array(TOKENS) - left) / (right - left)
        left, right = below.get_xlim()
        np.testing.assert_allclose(share[[0, -1]], (EPOCHS[[0, -1]] - left) / (right - left))

    def test_a_notebook_shows_it_without_pyplot(self):
        for figure in (plot_losses(EPOCHS, TOKENS, TRAIN, VAL), plot_perplexity(TOKENS, TRAIN, VAL)):
            assert figure._repr_png_().startswith(b"\x89PNG")
            assert figure._repr_html_() is None, "else Jupyter would show that, and it is empty without pyplot"

    @pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
    def test_savefig_writes_it(self, kind, start, tmp_path):
        for figure in (plot_losses(EPOCHS, TOKENS, TRAIN, VAL), plot_perplexity(TOKENS, TRAIN, VAL)):
            figure.savefig(tmp_path / f"figure.{kind}")
            assert (tmp_path / f"figure.{kind}").read_bytes().startswith(start)

    def test_jupyters_own_formatters_find_the_png(self):
        formatters = pytest.importorskip("IPython.core.formatters")
        data, _ = formatters.DisplayFormatter().format(plot_losses(EPOCHS, TOKENS, TRAIN, VAL))
        assert set(data) == {"image/png", "text/plain"}


class TestPerplexity:
    @pytest.mark.parametrize("log", [False, True, None])
    def test_it_is_exp_of_the_loss_under_the_documents_labels(self, log):
        figure = plot_perplexity(TOKENS, TRAIN, VAL, **({} if log is None else {"log": log}))
        (axes,) = figure.axes
        np.testing.assert_allclose(axes.lines[0].get_ydata(), np.exp(TRAIN))
        np.testing.assert_allclose(axes.lines[1].get_ydata(), np.exp(VAL))
        assert axes.get_title() == "Perplexity over Training"
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("Tokens Seen", "Perplexity (tokens)")
        assert entries(figure)[:2] == ["Training Perplexity", "Validation Perplexity"]
        assert axes.get_yscale() == ("linear" if log is False else "log")

    def test_what_overflows_leaves_a_gap_and_a_note(self):
        figure = plot_perplexity(TOKENS, [1000.0, *TRAIN[1:]], [np.inf, np.nan, *VAL[2:]])
        (axes,) = figure.axes
        assert np.isnan(axes.lines[0].get_ydata()[0])
        assert np.isnan(axes.lines[1].get_ydata()[:2]).all()
        assert [text.get_text() for text in axes.texts] == ["2 above 1e+15 left out"]
        rendered(figure, "png")

    def test_it_leaves_the_losses_as_they_are(self):
        losses = np.array([1000.0, 2.0])
        plot_perplexity([1, 2], losses, losses)
        np.testing.assert_array_equal(losses, [1000.0, 2.0])


class TestTraining:
    def test_it_shows_steps_their_mean_evaluations_and_learning_rate(self):
        steps, evaluations = run_of(100)
        upper, lower = plot_training(steps, evaluations).axes
        raw, mean, training, validation, _ = upper.lines
        np.testing.assert_array_equal(raw.get_ydata(), [s["loss"] for s in steps])
        assert mean.get_label() == "Training, mean of 3 updates"
        np.testing.assert_allclose(mean.get_ydata()[1:-1], np.convolve(raw.get_ydata(), np.ones(3) / 3, "valid"))
        np.testing.assert_array_equal(training.get_ydata(), [e["train_loss"] for e in evaluations])
        np.testing.assert_array_equal(validation.get_ydata(), [e["val_loss"] for e in evaluations])
        np.testing.assert_array_equal(lower.lines[0].get_ydata(), [s["lr"] for s in steps])
        assert upper.get_shared_x_axes().joined(upper, lower)
        assert lower.get_xlabel() == "Tokens seen"

    def test_the_speed_is_drawn_where_the_seconds_are_known(self):
        steps, evaluations = run_of(100)
        timed = [{**step, "seconds": 0.5 * (i + 1)} for i, step in enumerate(steps)]
        speed = plot_training(timed, evaluations).axes[-1]
        assert speed.get_ylabel() == "Speed\n(tokens/s)"
        assert speed.get_xlabel() == "Tokens seen"
        per_second = (steps[1]["tokens"] - steps[0]["tokens"]) / 0.5
        np.testing.assert_allclose(speed.lines[0].get_ydata(), per_second)

    def test_a_long_run_keeps_its_peaks_in_a_small_file(self):
        steps, evaluations = run_of(50_000)
        steps[12_345]["loss"], steps[777]["loss"] = 50.0, float("nan")
        figure = plot_training(steps, evaluations)
        raw = figure.axes[0].lines[0]
        assert len(raw.get_ydata()) < 4000
        assert np.nanmax(raw.get_ydata()) == 50
        assert np.nanmin(raw.get_ydata()) == min(s["loss"] for s in steps)
        assert raw.get_xdata()[-1] == steps[-1]["tokens"]
        assert len(rendered(figure, "svg")) < 400_000

    def test_a_loss_that_is_missing_is_passed_over_by_the_mean(self):
        steps, _ = run_of(100)
        steps[50]["loss"] = None
        mean = plot_training(steps, []).axes[0].lines[1].get_ydata()
        assert mean[50] == pytest.approx((steps[49]["loss"] + steps[51]["loss"]) / 2)


class TestMarks:
    """Marks of the lowest validation loss, of a uniform guess and of clipping, the same in every figure."""

    @staticmethod
    def figures(width: float = 9, **changed):
        steps, _ = run_of(100)
        steps = [{**step, "grad_norm": 0.5 + i / 100} for i, step in enumerate(steps)]
        columns = zip(TOKENS, TRAIN, VAL, strict=True)
        evaluations = [{"tokens": at, "train_loss": train, "val_loss": val} for at, train, val in columns]
        known = {"vocab_size": 769, "tokens_per_epoch": 4403.2, "width": width, **changed}
        losses = {name: value for name, value in known.items() if name != "tokens_per_epoch"}
        return (
            plot_losses(EPOCHS, TOKENS, TRAIN, VAL, **losses),
            plot_perplexity(TOKENS, TRAIN, VAL, **known),
            plot_training(steps, evaluations, max_norm=1.0, **known),
        )

    def test_the_lowest_validation_loss_is_marked_with_its_value_and_epoch(self):
        expected = ["Lowest validation: 6.233, epoch 7.5", "Lowest validation: 509.3, epoch 7.1"]
        for figure, text in zip(self.figures(), [*expected, "Lowest validation: 6.233, epoch 7.1"], strict=True):
            assert text in entries(figure)
        marks = [next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 1) for figure in self.figures()]
        assert [mark.get_xdata()[0] for mark in marks] == [7.5, TOKENS[3], TOKENS[3]]
        np.testing.assert_allclose([mark.get_ydata()[0] for mark in marks], [VAL[3], np.exp(VAL[3]), VAL[3]])

    def test_a_uniform_guess_has_a_line(self):
        for figure, text, y in zip(
            self.figures(),
            ["Uniform guess: ln V = 6.645", "Uniform guess: V = 769", "Uniform guess: ln V = 6.645"],
            [np.log(769), 769, np.log(769)],
            strict=True,
        ):
            assert text in entries(figure)
            assert any(list(line.get_ydata()) == [y, y] for line in figure.axes[0].lines)

    def test_a_line_far_above_the_curves_is_in_the_legend_alone(self):
        figure = plot_losses(EPOCHS, TOKENS, [3, 2, 2, 2, 2], [3, 3, 3, 3, 3], vocab_size=50257)
        assert "Uniform guess: ln V = 10.825, above" in entries(figure)
        assert figure.axes[0].get_ylim()[1] < 4

    def test_each_quantity_has_one_colour(self):
        colours: dict[str, set[str]] = {"training": set(), "validation": set()}
        for figure in self.figures():
            for line in figure.axes[0].lines:
                for name, found in colours.items():
                    if name in str(line.get_label()).lower():
                        found.add(line.get_color())
        assert colours == {"training": {BLUE}, "validation": {ORANGE}}
        _, norm, rate = self.figures()[2].axes
        assert {line.get_color() for line in norm.lines} == {GREEN}
        assert {line.get_color() for line in rate.lines} == {PURPLE}

    def test_the_gradient_norm_is_drawn_with_the_clip_line(self):
        figure = self.figures()[2]
        norm, clip = figure.axes[1].lines
        np.testing.assert_allclose(norm.get_ydata()[[0, -1]], [0.5, 1.49])
        assert list(clip.get_ydata()) == [1, 1]
        assert "Clipped above 1" in entries(figure)

    @pytest.mark.parametrize("width", [3.6, 5, 9])
    def test_no_legend_covers_the_axes_and_nothing_is_cut(self, width):
        for figure in self.figures(width):
            figure.draw_without_rendering()
            (legend,) = figure.legends
            box = legend.get_window_extent()
            for axes in figure.axes:
                assert not box.overlaps(axes.get_tightbbox()), "the axes with their labels"
                assert axes.get_window_extent().height > 50
            inside = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
            assert inside.x0 >= -1
            assert inside.y0 >= -1
            assert inside.x1 <= figure.bbox.x1 + 1
            assert inside.y1 <= figure.bbox.y1 + 1

    def test_text_of_a_narrow_figure_is_11_pixels_or_more_on_a_phone(self):
        figures = [*self.figures(NARROW), plot_training([{"tokens": 1, "loss": 1.0, "lr": 3e-5}], [], width=NARROW)]
        for figure in figures:
            assert smallest_text(rendered(figure, "svg").decode()) >= 11

    def test_the_pale_curve_of_single_updates_has_the_contrast_of_wcag_aa(self):
        pale = self.figures()[2].axes[0].lines[0]
        assert pale.get_label() == "Training, each update"
        for colour, paper in ((BLUE, PAPER), (DARK[BLUE], DARK[PAPER])):
            assert contrast(blended(colour, pale.get_alpha(), paper), paper) >= 3

    def test_every_axis_has_a_unit_or_counts_something(self):
        labels = {axes.get_ylabel().replace("\n", " ") for figure in self.figures() for axes in figure.axes}
        assert labels - {""} == {
            "Loss (nats per token)",
            "Perplexity (tokens)",
            "Gradient norm (L2)",
            "Learning rate (per update)",
        }

    @pytest.mark.parametrize(
        ("largest", "expected"),
        [
            (0.002, ["0", "0.001", "0.002"]),
            (0.0006, ["0", "3e-4", "6e-4"]),
            (5e-5, ["0", "2e-5", "4e-5"]),
        ],
    )
    def test_learning_rates_are_readable(self, largest, expected):
        steps = [{"tokens": i, "loss": 1.0, "lr": largest * i / 10} for i in range(11)]
        figure = plot_training(steps, [])
        figure.draw_without_rendering()
        low, high = figure.axes[-1].get_ylim()
        axis = figure.axes[-1].yaxis
        ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
        assert [label.get_text() for at, label in ticks if low <= at <= high] == expected


@pytest.mark.parametrize("losses", [[], [2.0], [float("nan")], [float("inf"), 1.0], [0.0, 0.0]], ids=str)
def test_odd_numbers_are_drawn_without_a_warning(losses):
    tokens = list(range(len(losses)))
    evaluations = [{"tokens": t, "train_loss": v, "val_loss": v} for t, v in zip(tokens, losses, strict=True)]
    steps = [{"tokens": t, "loss": v, "lr": 0.0} for t, v in zip(tokens, losses, strict=True)]
    for figure in (
        plot_losses(tokens, tokens, losses, losses),
        plot_perplexity(tokens, losses, losses),
        plot_perplexity(tokens, losses, losses, log=True),
        plot_training(steps, evaluations),
        plot_losses(tokens, tokens, losses, losses, vocab_size=9),
        plot_perplexity(tokens, losses, losses, vocab_size=9, tokens_per_epoch=2),
        plot_training(
            [{**step, "grad_norm": step["loss"]} for step in steps], evaluations, vocab_size=9, tokens_per_epoch=2
        ),
    ):
        figure.draw_without_rendering()


NUMBERS = [
    (plot_losses, (EPOCHS, TOKENS, TRAIN, VAL), "width", 4.5),
    (plot_losses, (EPOCHS, TOKENS, TRAIN, VAL), "vocab_size", 9),
    (plot_perplexity, (TOKENS, TRAIN, VAL), "width", 4.5),
    (plot_perplexity, (TOKENS, TRAIN, VAL), "vocab_size", 9),
    (plot_perplexity, (TOKENS, TRAIN, VAL), "tokens_per_epoch", 4.5),
]


@pytest.mark.parametrize(("plot", "columns", "name", "number"), NUMBERS)
@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), True, "2", [2], 1j, np.array([2])], ids=str)
def test_numbers_that_are_not_positive_are_refused(plot, columns, name, number, wrong):
    with pytest.raises(InputError, match=rf"^{name}: .* is not allowed; choose a .*number >=? \d$"):
        plot(*columns, **{name: wrong})


@pytest.mark.parametrize(("plot", "columns", "name", "number"), NUMBERS)
@pytest.mark.parametrize("kind", [np.asarray, lambda number: np.asarray(number)[()]], ids=["array", "scalar"])
def test_numpys_numbers_give_what_pythons_give(plot, columns, name, number, kind):
    numpys, pythons = plot(*columns, **{name: kind(number)}), plot(*columns, **{name: number})
    assert entries(numpys) == entries(pythons)
    np.testing.assert_array_equal(numpys.get_size_inches(), pythons.get_size_inches())
    for one, other in zip(numpys.axes[0].lines, pythons.axes[0].lines, strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())


@pytest.mark.parametrize("end", [0.0034, 0.21, 1.0, 3.4, 25])
@pytest.mark.parametrize("width", [NARROW, 4.0, 9.0])
def test_the_numbers_of_epochs_do_not_overlap_in_a_short_run_either(end, width):
    epochs, per_epoch = [end / 2, end], 9400
    tokens = [per_epoch * epoch for epoch in epochs]
    losses = plot_losses(epochs, tokens, [7, 6], [7, 6.5], width=width)
    perplexity = plot_perplexity(tokens, [7, 6], [7, 6.5], tokens_per_epoch=per_epoch, width=width)
    for figure in (losses, perplexity):
        figure.draw_without_rendering()
        axes = [axes for axes in (*figure.axes, *figure.axes[0].child_axes) if axes.get_xlabel() == "Epochs"]
        assert len(axes) == 1
        boxes = [text.get_window_extent() for text in axes[0].get_xticklabels() if text.get_text()]
        boxes = [box for box in boxes if axes[0].bbox.x0 <= (box.x0 + box.x1) / 2 <= axes[0].bbox.x1]
        assert boxes
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))


class TestFiles:
    def test_both_kinds_are_written_whole(self, tmp_path):
        paths = save_figure(plot_losses(EPOCHS, TOKENS, TRAIN, VAL), tmp_path / "new" / "loss.v1")
        assert paths == [tmp_path / "new" / "loss.v1.png", tmp_path / "new" / "loss.v1.svg"]
        assert sorted((tmp_path / "new").iterdir()) == paths, "no temporary file is left"
        assert paths[0].read_bytes().startswith(b"\x89PNG")
        assert ET.parse(paths[1]).getroot().tag.endswith("svg")

    def test_a_png_has_150_dots_an_inch(self, tmp_path):
        figure = plot_losses(EPOCHS, TOKENS, TRAIN, VAL)
        png, _ = save_figure(figure, tmp_path / "loss")
        header = png.read_bytes()[16:24]
        assert (int.from_bytes(header[:4]), int.from_bytes(header[4:])) == (750, int(150 * figure.get_figheight()))

    @pytest.mark.parametrize("kind", ["png", "svg"])
    def test_the_same_figure_gives_the_same_bytes_whatever_the_users_settings(self, kind):
        first = rendered(plot_losses(EPOCHS, TOKENS, TRAIN, VAL), kind)
        with matplotlib.rc_context({"font.size": 30.0, "axes.facecolor": "red", "svg.hashsalt": None}):
            assert rendered(plot_losses(EPOCHS, TOKENS, TRAIN, VAL), kind) == first
            assert matplotlib.rcParams["font.size"] == 30, "and gives the settings back"

    def test_saving_lays_a_figure_out_once_and_leaves_its_layout_engine(self, tmp_path, monkeypatch):
        figure = plot_losses(EPOCHS, TOKENS, TRAIN, VAL)
        engine, laid_out = figure.get_layout_engine(), []
        execute = type(engine).execute
        monkeypatch.setattr(type(engine), "execute", lambda self, fig: laid_out.append(fig) or execute(self, fig))
        _, svg = save_figure(figure, tmp_path / "loss")
        assert laid_out == [figure]
        assert figure.get_layout_engine() is engine
        another = plot_losses(EPOCHS, TOKENS, TRAIN, VAL)
        assert svg.read_bytes() == with_dark_mode(rendered(another, "svg"))

    def test_a_failed_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "file"
        write_whole(path, b"old")

        def full(self: Path, content: bytes) -> None:
            raise OSError("no space left")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="no space"):
            write_whole(path, b"new")
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]


def test_a_script_draws_in_our_look():
    with style():
        figure = new_figure(3)
        axes = figure.subplots()
        assert tuple(figure.get_size_inches()) == (NARROW, 3)
        assert not axes.spines.top.get_visible()


def test_pyplot_is_never_imported():
    code = (
        "import nanograd_gpt.viz.plots as p, sys; p.plot_losses([0], [1], [2], [3])._repr_png_(); print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "matplotlib.figure" in modules
    assert "matplotlib.pyplot" not in modules
