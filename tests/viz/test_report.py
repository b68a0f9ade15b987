"""report.html: complete, self-contained, and with all text from files escaped."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from contrast import contrast

from nanograd_gpt.errors import InputError
from nanograd_gpt.viz.page_style import CSS
from nanograd_gpt.viz.report import write_report
from nanograd_gpt.viz.surprise import LEVELS

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """The elements and texts of a page; fails if elements are not properly nested."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words += data + "\n"
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def tags(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


def step(i: int, **changed) -> dict:
    facts = {"event": "step", "step": i, "epoch": 1 + i // 10, "tokens": 64 * (i + 1), "loss": 5 - 0.1 * i, "lr": 1e-3}
    return {**facts, "grad_norm": None, "seconds": 0.5 * (i + 1), **changed}


def evaluation(i: int, val_loss: float | None, train_loss: float | None = 3.0) -> dict:
    where = {"step": i, "epoch": 1 + i // 10, "tokens": 64 * (i + 1)}
    return {"event": "evaluation", **where, "train_loss": train_loss, "val_loss": val_loss}


START = {"event": "start", "time": "2026-01-02T03:04:05.678+00:00", "n_parameters": 1234567, "resumed_from": -1}
RUN = [
    START,
    *(step(i) for i in range(10)),
    evaluation(0, 6.5),
    evaluation(5, 4.25),
    evaluation(9, 4.75),
    {"event": "sample", "step": 9, "epoch": 1, "text": "Every effort moves you one"},
    *(step(i) for i in range(10, 20)),
    {"event": "sample", "step": 19, "epoch": 2, "text": "Every effort moves you two"},
    {"event": "end", "steps": 20, "seconds": 10.0},
]

UNDRAWN = [event for event in RUN if event["event"] in ("start", "sample", "end")]


def written(directory: Path, events: list[dict], ending: str = "", **files: str) -> Page:
    directory.mkdir(exist_ok=True)
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (directory / "metrics.jsonl").write_text(lines + ending, encoding="utf-8")
    for name, content in files.items():
        (directory / name.replace("_", ".")).write_text(content, encoding="utf-8")
    path = write_report(directory)
    assert path == directory / "report.html"
    return Page(path)


CONFIG = 'note = "mine"\n[model]\nemb_dim = 160\nqkv_bias = false\n[training]\nlr = 0.002\nprompt = "Every effort"\n'
ENVIRONMENT = json.dumps({"python": "3.11.7", "cupy": None, "blas": ["openblas, 2 threads", "mkl"]})


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    directory = tmp_path_factory.mktemp("runs") / "tiny-2"
    return written(directory, RUN, config_toml=CONFIG, environment_json=ENVIRONMENT)


def test_the_whole_run_is_on_the_page(page):
    assert page.source.count("<svg") == 6, "each figure for a wide and for a narrow screen"
    for expected in (
        "tiny-2",
        "Training started 2026-01-02 03:04 UTC, finished.",
        "1,234,567",  # parameters
        "1,280",  # tokens seen
        "10.0 s",
        "128",  # tokens per second
        "Every effort moves you one",
        "Configuration and environment",
    ):
        assert expected in page.words
    assert page.words.count("Every effort moves you two") == 2, "as a sample, and as the final text"
    for row in (["emb_dim", "160"], ["qkv_bias", "false"], ["lr", "0.002"], ["prompt", "Every effort"],
                ["note", "mine"], ["cupy", "none"], ["blas", "openblas, 2 threads; mkl"]):  # fmt: skip
        assert row in page.rows


def test_evaluations_are_a_table_with_the_best_one_marked(page):
    assert ["1", "5", "384", "3.000", "4.250", "20.09", "70.11"] in page.rows
    assert ["Epoch", "Step", "Tokens seen", "Loss", "Perplexity"] in page.rows
    (best,) = (i for i, row in enumerate(page.tags("tr")) if row.get("class") == "best")
    assert page.rows[best][4] == "4.250"
    assert "Lowest validation loss" in page.words


def test_what_weights_were_worth_before_the_first_update_is_shown_as_that(tmp_path):
    page = written(tmp_path / "run", [START, evaluation(-1, 4.0), evaluation(0, 3.5)])
    assert [row[1] for row in page.rows if row[4:5] in (["4.000"], ["3.500"])] == ["as loaded", "0"]


def test_it_needs_no_network_and_no_script(page):
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "image"}
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert name not in ("src", "srcset", "action", "onclick", "onload")
            if name.endswith("href"):
                assert value.startswith("#")
    assert set(re.findall(r"url\((.)", page.source)) == {"#"}
    assert "@import" not in page.source
    assert set(re.findall(r"https?://[^\"]*", page.source)) == {  # names of namespaces, which are not fetched
        "http://www.w3.org/1999/xlink",
        "http://www.w3.org/2000/svg",
    }


def test_figures_follow_a_dark_screen_and_keep_their_ids_apart(page):
    assert "prefers-color-scheme: dark" in page.source
    body = page.source[page.source.index("<body>") :]
    assert not re.search(r"#[0-9a-f]{6}\b", body), "a colour that stays as it is on a dark page"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    assert used <= set(ids)
    assert not {name.split("-")[0] for name in ids} - {"training", "loss", "perplexity"}
    assert all(svg["aria-label"] for svg in page.tags("svg"))


def test_figures_come_first_and_the_settings_last_and_folded(page):
    order = ["<h2>Training", "<h2>Loss and perplexity", "<h2>Evaluations", "<h2>Samples", "<details>"]
    found = [page.source.index(part) for part in order]
    assert found == sorted(found)
    assert page.tags("details") == [{}], "closed"


def test_figures_have_captions_with_the_runs_numbers(page):
    assert "Validation loss was lowest at epoch 0.6 (4.250) and then rose to 4.750" in page.words
    assert len(page.tags("figcaption")) == len(page.tags("figure")) == 3
    assert {svg["aria-label"] for svg in page.tags("svg")} <= {*page.words.split("\n")}


@pytest.mark.parametrize("kind", ["wide", "narrow"])
def test_svgs_are_well_formed_and_scale(page, kind):
    svgs = re.findall(rf'<div class="{kind}">(<svg.*?</svg>)', page.source, re.DOTALL)
    assert len(svgs) == 3
    least = [792, 440, 440] if kind == "wide" else [350] * 3  # pixels, from the style sheet
    for svg, pixels in zip(svgs, least, strict=True):
        root = ET.fromstring(svg)
        assert "viewBox" in root.attrib
        assert not {"width", "height"} & {*root.attrib}
        width = float(root.attrib["viewBox"].split()[2])
        assert 9 * pixels / width >= 11, "text of 9 points, in pixels"


def theme(dark: bool) -> dict[str, str]:
    light, black = (dict(re.findall(r"(--[\w-]+): (#\w{6})", part)) for part in CSS.split("@media", 2)[:2])
    return {**light, **black} if dark else light


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_have_the_contrast_of_wcag_aa(dark):
    colours = theme(dark)
    on_ink = ("--paper", "--card", "--best", "--s1", "--s2", "--s3")
    pairs = [("--ink", background) for background in on_ink]
    pairs += [("--soft", "--paper"), ("--soft", "--card"), ("--on-strong", "--s4")]
    for text, background in pairs:
        assert contrast(colours[text], colours[background]) >= 4.5, (text, background)
    for curve in ("--blue", "--orange", "--green", "--purple"):
        assert contrast(colours[curve], colours["--paper"]) >= 3, curve


def test_the_table_has_a_cue_at_each_edge_beyond_which_it_goes_on():
    """A shadow that stays at the edge, above it a cover that scrolls along and hides the shadow at the table's end."""
    rule = CSS[CSS.index(".scroll {") :]
    rule = rule[: rule.index("}")]
    gradient = r"linear-gradient\((\d+)deg, var\(--(\w+)\)[^)]*\) [^,]* (local|scroll)"
    layers = re.findall(gradient, rule)
    for edge in ("90", "270", "0"):  # left, right, and below; above is the table's head, which stays
        cover, shadow = (layers.index((edge, *layer)) for layer in (("paper", "local"), ("shadow", "scroll")))
        assert cover < shadow


SURPRISE = {
    "step": 19,
    "training": {"tokens": ["A", " <b>", "\n", "\x1b[31m"], "probabilities": [None, 0.75, 0.04, 0.0]},
    "validation": {"tokens": ["I", " am"], "probabilities": [None, 0.0005]},
}


def test_both_texts_are_coloured_by_surprise(tmp_path):
    page = written(tmp_path, UNDRAWN, surprise_json=json.dumps(SURPRISE))
    shown = [(tag["class"], tag["title"]) for tag in page.tags("span") if "title" in tag]
    assert shown == [("s0", "75.00%, 0.29 nats"), ("s2", "4.00%, 3.22 nats"), ("s4", "0.00%, inf nats"),
                     ("s4", "0.05%, 7.60 nats")]  # fmt: skip
    assert " <span" in page.source
    assert "&lt;b&gt;</span>" in page.source
    assert "↵\n</span>" in page.source
    assert "\x1b" not in page.source
    assert r"\x1b[31m" in page.words
    for name in LEVELS:
        assert name in page.words


@pytest.mark.slow
@pytest.mark.parametrize(
    "surprise",
    [{"training": 1}, {"training": {"tokens": ["a"]}}, {"training": {"tokens": ["a"], "probabilities": [1, 1]}},
     {"training": {"tokens": ["a"], "probabilities": [None]}}, {"training": {"tokens": [1], "probabilities": [1]}},
     {"training": {"tokens": ["a"], "probabilities": ["b"]}}],
    ids=str,
)  # fmt: skip
def test_surprise_of_another_shape_is_passed_over_with_a_warning(tmp_path, surprise):
    with pytest.warns(UserWarning, match=r"surprise\.json cannot be read .it does not hold the tokens of the training"):
        page = written(tmp_path, UNDRAWN, surprise_json=json.dumps(surprise))
    assert "surprise the model" not in page.words
    assert "two" in page.words


def test_text_from_files_stays_text(tmp_path):
    evil = "<script>alert('&')</script>\x00</body>"
    events = [
        {**START, "time": evil},
        step(0),
        {**evaluation(0, 2.0)},
        {"event": "sample", "step": 0, "epoch": 1, "text": evil + " \ud800"},
    ]
    config = '[model]\n"<script>" = "<script>"\n["<b>"]\nx = ["<i>"]\n'
    environment = json.dumps({"<script>": {"<script>": "<script>"}})
    page = written(tmp_path / "<b>run", events, config_toml=config, environment_json=environment)
    assert not {tag for tag, _ in page.elements} & {"script", "b", "i"}
    assert page.source.count("</body>") == 1
    assert "<script>alert('&')</script>" in page.words


def test_after_a_resume_the_later_events_count(tmp_path):
    events = [
        START,
        *(step(i) for i in range(12)),
        evaluation(10, 9.0),
        {**START, "resumed_from": 8},
        *(step(i, seconds=0.5 * (i - 8)) for i in range(9, 14)),
        evaluation(10, 7.0),
    ]
    page = written(tmp_path, events, ending='{"event": "step", "st')
    assert "resumed once" in page.words
    assert "not finished" in page.words
    assert "7.000" in page.words
    assert "9.000" not in page.words
    assert "7.0 s" in page.words, "9 steps of the first session and 5 of the second, half a second each"


def test_an_end_before_a_resume_is_not_the_end(tmp_path):
    page = written(tmp_path, [*RUN, {**START, "resumed_from": 19}, step(20)])
    assert "not finished" in page.words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("events", "n_figures", "shown"),
    [
        ([], 0, "not finished"),
        ([START], 0, "1,234,567"),
        ([START, step(0)], 1, "not finished"),
        ([START, step(0, loss=float("nan"), lr=0.0), evaluation(0, float("nan"), None)], 3, "nan"),
        ([evaluation(0, 1000.0, float("inf"))], 3, "> 1e304"),
    ],
    ids=["empty", "started", "one step", "nan", "overflow"],
)
def test_a_run_that_has_hardly_begun_or_went_wrong(tmp_path, events, n_figures, shown):
    page = written(tmp_path, events)
    assert len(page.tags("svg")) == 2 * n_figures
    assert shown in page.words


@pytest.mark.parametrize(
    ("lost", "shown"),
    [
        ([2], "with a loss that is not finite in one update, first at step 2, not finished"),
        ([1, 3], "with a loss that is not finite in 2 updates, first at step 1, not finished"),
    ],
)
def test_updates_whose_loss_is_not_finite_are_counted(tmp_path, lost, shown, monkeypatch):
    monkeypatch.setattr("nanograd_gpt.viz.report.run_figures", lambda run, narrow=False: {})
    events = [START, *(step(i, **({"loss": float("nan")} if i in lost else {})) for i in range(4))]
    assert shown in written(tmp_path, events).words


def test_losses_that_are_no_numbers_are_never_the_best(tmp_path):
    page = written(tmp_path, [evaluation(0, float("nan")), evaluation(1, None), evaluation(2, 3.0)])
    assert [row.get("class") for row in page.tags("tr")] == [None, None, None, None, "best"], "after two rows of names"


def test_samples_are_read_from_their_file_where_the_metrics_have_none(tmp_path):
    page = written(tmp_path, [START, step(0)], samples_txt="Epoch 1: once <upon> a time")
    assert "Epoch 1: once <upon> a time" in page.words


def test_the_same_run_gives_the_same_page(tmp_path):
    assert written(tmp_path, RUN[:12]).source == written(tmp_path, RUN[:12]).source


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content"),
    [("config.toml", "= 1"), ("environment.json", "{"), ("environment.json", "[1]"), ("config.toml", b"\xff")],
)
def test_a_file_that_cannot_be_read_is_named_and_passed_over(tmp_path, name, content):
    (tmp_path / "metrics.jsonl").write_text("", encoding="utf-8")
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.warns(UserWarning, match=f"{name} cannot be read .*; passed over$"):
        assert "not finished" in Page(write_report(tmp_path)).words


def test_all_damage_to_a_run_is_one_warning(tmp_path):
    lines = [json.dumps(event) for event in RUN]
    lines[3] = lines[3][:20]
    lines[5] = json.dumps(step(5, lr="fast"))
    lines[12] = json.dumps({name: value for name, value in RUN[12].items() if name != "tokens"})
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "environment.json").write_text("{", encoding="utf-8")
    with pytest.warns(
        UserWarning, match=r"3 lines with damage, the first is line 4; .*environment\.json cannot"
    ) as found:
        page = Page(write_report(tmp_path))
    assert len(found) == 1
    assert len(page.rows) == 2 + 2
    assert "20" in page.words


def test_a_run_killed_after_the_evaluation_of_its_weights_is_drawn(tmp_path):
    page = written(tmp_path, [START, {**evaluation(-1, 6.5), "epoch": 0, "tokens": 0}])
    assert len(page.tags("svg")) == 2 * 3
    assert ["0", "as loaded", "0", "3.000", "6.500", "20.09", "665.1"] in page.rows


def test_a_directory_without_a_run_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"metrics\.jsonl"):
        write_report(tmp_path)
