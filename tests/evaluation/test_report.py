"""The report: one file that opens with the verdict, asks for nothing, and names what is missing."""

import json
import re
import runpy
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from accessible import violations
from biopsy.core.errors import DataError
from biopsy.core.files import write_csv, write_json
from biopsy.core.params import Params, read_params
from biopsy.core.sections.data import Stain
from biopsy.evaluation.outcome import make_outcome
from biopsy.evaluation.predictions import Answers
from biopsy.evaluation.records import Summary
from biopsy.evaluation.report.checklists import checklists
from biopsy.evaluation.report.groups import by_slide, say_slides
from biopsy.evaluation.report.page import render
from biopsy.evaluation.report.results import read_results, read_run
from biopsy.evaluation.report.words import guessing, named
from biopsy.experiments.results import describe_results
from conftest import ROOT
from report_project import write_project
from schemes import params as make_params


class Page(HTMLParser):
    """What a browser and a screen reader would find."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


class InSight(HTMLParser):
    """The words that are not folded away."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.folds, self.said = 0, ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.folds += tag == "details"

    def handle_endtag(self, tag: str) -> None:
        self.folds -= tag == "details"

    def handle_data(self, data: str) -> None:
        self.said += "" if self.folds else data


def words_of(page: str) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]+>", " ", page, flags=re.DOTALL).split())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    root = tmp_path_factory.mktemp("report")
    return root, write_project(root, ["benign", "malignant"], ["case"])


@pytest.fixture
def copy(project: tuple[Path, Params], tmp_path: Path) -> tuple[Path, Params]:
    shutil.copytree(project[0], tmp_path / "copy")
    return tmp_path / "copy", project[1]


@pytest.mark.parametrize(("classes", "protocol"), [(2, "case"), (3, "case-cv3x2"), (30, "slide")])
def test_the_report_is_one_small_file_for_any_classes_and_protocol(classes: int, protocol: str, tmp_path: Path) -> None:
    params = write_project(tmp_path, [f"k{i}" for i in range(classes)], [protocol], max(12, classes))
    text = render(read_run(params, tmp_path))
    assert len(text.encode()) < 3_000_000
    page = Page(text)
    links = [a.get(key) or "" for _, a in page.tags for key in ("src", "href", "srcset", "poster") if key in a]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"https?:|@import|url\(|<script[^>]|fetch\(|XMLHttp|import\(", text)
    errors = [picture for picture in page.all("img") if " predicted as " in str(picture["alt"])]
    assert len(errors) == min(12, text.count("<br>predicted <strong>")) > 0
    for told in ("means over 2 repeats", "correctly on average over 2 repeats", "recall, mean of repeats"):
        assert (told in words_of(text)) == (protocol == "case-cv3x2"), told
    assert "(one a fold)" in text if "cv" in protocol else "Temperature: 2.0" in text


def test_it_says_how_many_images_had_their_stain_normalised(copy: tuple[Path, Params]) -> None:
    root, params = copy
    params = params.model_copy(update={"stain": Stain(method="macenko")})
    told = {"method": "macenko", "images": 1200, "normalised": 1199}
    for counts, flow, checklist in (
        (told, "Stain normalised by macenko case 1,199 of 1,200", "stain by macenko"),
        ({"method": "macenko", "folds": {"1-1": told, "1-2": told}}, "case 2,398 of 2,400", "stain by macenko"),
        (told | {"normalised": 0}, "case 0 of 1,200", "no stain normalisation"),
    ):
        write_json(root / "metrics/stain-case.json", counts)
        said = words_of(render(read_run(params, root)))
        assert flow in said
        assert checklist in said
    write_json(root / "metrics/stain-case.json", {"method": "none"})
    assert "Stain normalised" not in words_of(render(read_run(copy[1], root)))


def test_it_opens_with_the_verdict_in_words_and_ends_with_what_it_does_not_show(project: tuple[Path, Params]) -> None:
    said = words_of(render(read_run(project[1], project[0])))
    details = json.loads((project[0] / "metrics/tissue-case/details.json").read_text())
    low, high = details["intervals"]["macro_f1"]
    assert f"Macro-F1 {details['image_level']['macro_f1']:.3f} (95 % interval {low:.3f} to {high:.3f})" in said
    places = [said.index(text) for text in ("Research use only", "Verdict", "Macro-F1", "From the table", "Result:")]
    assert places == sorted(places)
    assert "12 cases predicted correctly" in said
    assert "No test image shares a case with training" in said
    assert "Synthetic" not in said
    assert "another laboratory" in said[said.index("What this report does not show", places[-1]) :]


def test_what_a_reader_may_skip_is_folded_and_the_best_founded_result_is_in_sight(tmp_path: Path) -> None:
    params = write_project(tmp_path, ["a", "b"], ["image", "case"])
    splits = json.loads((tmp_path / "metrics/split.json").read_text())
    splits["image"] |= {"says": "48 of 48 test images were seen", "test_images_seen": {"cases": 48, "slides": 48}}
    write_json(tmp_path / "metrics/split.json", splits)
    text = render(read_run(params, tmp_path))
    page = InSight(text)
    assert page.folds == 0
    results = page.said.split("Result: tissue, protocol ")
    assert [result.split()[0] for result in results[1:]] == ["case", "image"]
    order = ("Confusion matrix", "Calibration", "Where it fails", "By slide", "Worst errors", "Operating point")
    places = [results[1].index(title) for title in order]
    assert places == sorted(places)
    assert "This figure is too high for new patients: 48 of 48" in results[2]
    assert "Confusion matrix" not in results[2]
    for folded in (
        "By brightness, worst first",
        "Decision curve",
        "Prediction sets",
        "train.learning_rate",
        "F1 of a class",
    ):
        assert folded not in page.said
        assert folded in words_of(text)


def test_the_verdict_names_the_classes_in_words_and_as_the_tables_do() -> None:
    assert named({"DC": "ductal carcinoma", "benign": "benign"}) == ["ductal carcinoma (DC)", "benign"]


def test_a_planted_copy_in_another_part_or_case_is_found_and_shown(tmp_path: Path) -> None:
    params = write_project(tmp_path, ["a", "b"], ["case", "case-cv3"], cases=8)
    images, ids = tmp_path / "data/raw/images", [f"i{i:03d}" for i in range(32)]
    for i, name in enumerate(ids):  # a pattern of its own; bare noise is the same grey everywhere
        coarse = np.random.default_rng(i).uniform(60, 220, (6, 9, 3)).astype(np.uint8)
        cv2.imwrite(str(images / f"{name}.png"), cv2.resize(coarse, (350, 230), interpolation=cv2.INTER_CUBIC))
    # another case, turned; the same case, parts and fold; another case, mirrored
    for source, copy, turns, flip in ((0, 31, 1, 1), (1, 2, 0, 1), (4, 8, 2, -1)):
        picture = cv2.imread(str(images / f"{ids[source]}.png"))
        picture = np.ascontiguousarray(np.rot90(picture, turns)[:, ::flip])
        changed = cv2.resize(cv2.GaussianBlur(picture, (5, 5), 1), (280, 184)) * 0.85 + 12
        data = cv2.imencode(".jpg", changed, [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
        cv2.imwrite(str(images / f"{ids[copy]}.png"), cv2.imdecode(data, cv2.IMREAD_COLOR))
    for name in ids[20:24]:
        cv2.imwrite(str(images / f"{name}.png"), np.full((230, 350, 3), 240, np.uint8))  # glass: nothing to compare
    (images / "i030.png").write_bytes(b"broken")
    write_csv(tmp_path / "data/splits/case.csv", pd.DataFrame({"image_id": ids, "part": ["train"] * 31 + ["test"]}))
    write_csv(
        tmp_path / "data/splits/case-cv3.csv",
        pd.DataFrame({"image_id": ids, "repeat_1": ["1"] * 8 + ["2"] * 24, "repeat_2": [str(i) for i in range(32)]}),
    )
    text = render(read_run(params, tmp_path))
    said = words_of(text)
    assert "3 pairs of near-copies among 31 images that were compared." in said
    assert "Protocol case: 1 pair in two parts." in said
    assert "Protocol case-cv3: 2 pairs in two parts." in said
    assert "2 pairs under two cases" in said
    shown = [picture["alt"] for picture in Page(text[: text.index('id="protocols"')]).all("img")]
    assert sorted(map(str, shown)) == ["i000", "i004", "i008", "i031"]
    assert "in two parts of case, case-cv3; cases c00 and c07" in said


def test_a_synthetic_sample_and_a_leak_are_said_loudly(tmp_path: Path) -> None:
    params = write_project(tmp_path, ["a", "b"], ["image"], leak=48)
    path = tmp_path / "metrics/tissue-image/details.json"
    write_json(path, {**json.loads(path.read_text()), "synthetic": True})
    said = words_of(render(read_run(params, tmp_path)))
    assert said.index("Synthetic sample") < said.index("Verdict")
    assert "too high for new patients: 48 of 48 test images" in said
    assert "yes: too high" in said


def test_it_can_be_read_without_eyes(project: tuple[Path, Params]) -> None:
    page = Page(render(read_run(project[1], project[0])))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(page.all("caption")) == len(page.all("table")) > 6
    assert all("scope" in cell for cell in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.all("svg"))
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    targets = {str(a["href"])[1:] for a in page.all("a")} | {str(a["aria-labelledby"]) for a in page.all("section")}
    assert targets <= set(ids)
    headings = [str(a["id"]) for tag, a in page.tags if tag == "h2"]
    contents = [str(a["href"])[1:] for a in page.all("a")][: len(headings)]
    assert contents == headings


def test_abstaining_is_reported_with_what_it_costs_and_what_it_gains(project: tuple[Path, Params]) -> None:
    said = words_of(render(read_run(project[1], project[0])))
    found = json.loads((project[0] / "metrics/tissue-case/details.json").read_text())["abstention"]
    test = found["image"]["rule"]["test"]
    low, high = test["interval"]
    assert 0 < test["answered"] < test["of"]
    assert f"answers {test['answered']} of {test['of']} test images ({100 * test['share']:.0f} %)" in said
    assert (
        f"{test['wrong']} of {test['answered']} wrong: {test['error']:.3f} (95 % interval {low:.3f} to {high:.3f})"
        in said
    )
    assert f"mean error over all shares answered is {found['case']['area']:.3f}" in said


@pytest.mark.parametrize(("cases", "positives"), [(1, 1), (2, 0), (12, 0)])
def test_one_case_and_no_positive_classes_get_a_sentence_each(cases: int, positives: int, tmp_path: Path) -> None:
    params = write_project(tmp_path, ["a", "b"], ["case"], cases=cases, positives=positives)
    said = words_of(render(read_run(params, tmp_path)))
    assert "No curve: the task names no positive classes." in said or positives
    assert "No curve: nothing positive is in the test part." in said or not positives
    assert (f"validation has {cases}, a rule needs 10" in said) == (cases < 10)
    verdict = said[said.index("Task tissue") : said.index("Terms")]
    assert ("No image of b is tested: nothing is shown of it" in verdict) == (cases == 1)


def test_magnifications_have_a_table_where_some_are_known(tmp_path: Path) -> None:
    run = read_run(write_project(tmp_path, ["a", "b"], ["case"], positives=0), tmp_path)
    (result,) = run.results
    none = replace(result, test=replace(result.test, rows=result.test.rows.assign(magnification="")))
    assert "By magnification" in words_of(render(run))
    said = words_of(render(replace(run, results=[none])))
    assert "By magnification" not in said
    assert "None: the task names no positive classes (labels.tasks.&lt;task&gt;.positive)" in said


def test_the_matrix_is_shaded_by_the_share_of_the_true_class(project: tuple[Path, Params]) -> None:
    text = render(read_run(project[1], project[0]))
    row = re.search(r"<tr><th scope=\"row\">benign.*?</tr>", text[text.index('class="matrix"') :])
    assert row
    cells = re.findall(r'--share:([\d.]+)">(\d+)<', row[0])
    total = sum(int(n) for _, n in cells)
    assert [float(share) for share, _ in cells] == [round(int(n) / total, 2) for _, n in cells]
    assert re.search(r"\.matrix td \{ --tint: [^}]*var\(--share", text)


def test_a_class_that_the_testing_fold_had_not_learnt_is_named_below_its_curve(copy: tuple[Path, Params]) -> None:
    assert "says nothing: the model" not in words_of(render(read_run(copy[1], copy[0])))
    path = copy[0] / "metrics/tissue-case/details.json"
    write_json(path, json.loads(path.read_text()) | {"classes_not_in_training": ["benign"]})
    said = words_of(render(read_run(copy[1], copy[0])))
    assert "The area of benign says nothing: the model that tests such images had none in training." in said


def test_where_no_interval_is_known_cases_that_guessing_gets_right_too_are_called_chance(
    copy: tuple[Path, Params],
) -> None:
    path = copy[0] / "metrics/tissue-case/details.json"
    details, chance = json.loads(path.read_text()), "do not show that the model beats chance"
    details["cases_right"]["interval"] = [0.4, 0.9]
    write_json(path, details)
    assert chance not in words_of(render(read_run(copy[1], copy[0])))  # the intervals of the images say more
    details["intervals"] |= {"roc_auc": None, "macro_f1": None}
    write_json(path, details)
    assert f"Guessing predicts 1 of 2 cases correctly, a share within that interval: these data {chance}" in words_of(
        render(read_run(copy[1], copy[0]))
    )


def test_the_cases_are_compared_with_those_that_one_class_named_every_time_gets_right(
    copy: tuple[Path, Params],
) -> None:
    path = copy[0] / "metrics/tissue-case/details.json"
    details = json.loads(path.read_text())
    said = words_of(render(read_run(copy[1], copy[0])))
    assert "Predicting malignant every time would be right for 6 of 12. " in said
    details["per_class"]["benign"]["cases"] = 9
    for right, beaten in ((12, "which that interval does not exclude"), (8, "more than the model")):
        details["cases_right"]["right"] = right
        write_json(path, details)
        said = words_of(render(read_run(copy[1], copy[0])))
        assert f"Predicting benign every time would be right for 9 of 12, {beaten}." in said


def test_a_temperature_that_makes_the_probabilities_worse_is_said_to(copy: tuple[Path, Params]) -> None:
    path = copy[0] / "metrics/tissue-case/details.json"
    details = json.loads(path.read_text())
    kinds, said = {"before": (0.1, 0.2, 0.53), "after": (0.12, 0.25, 0.5301)}, "made the probabilities worse by ECE"
    details["calibration"] = {
        when: dict(zip(("ece", "brier", "log_loss"), n, strict=True)) for when, n in kinds.items()
    }
    write_json(path, details)
    assert f"{said}, Brier score." in words_of(render(read_run(copy[1], copy[0])))
    details["calibration"]["before"] = details["calibration"]["after"]
    write_json(path, details)
    assert said not in words_of(render(read_run(copy[1], copy[0])))


def test_a_split_by_image_never_heads_the_report_for_want_of_the_file_that_counts_leaks(tmp_path: Path) -> None:
    params = write_project(tmp_path, ["a", "b"], ["image", "case"])
    (tmp_path / "metrics/split.json").unlink()
    said = words_of(render(read_run(params, tmp_path)))
    assert "protocol case. 1 is perfect" in said[said.index("Task tissue") : said.index("Terms")]


def test_slides_that_are_wholly_wrong_are_named_and_small_ones_do_not_count() -> None:
    slides = np.repeat(["bad", "small", "half", "good", ""], [5, 4, 6, 5, 2])
    truth, wrong = np.zeros(22, int), np.isin(slides, ["bad", "small"]) | (np.arange(22) // 3 == 3)
    p = np.eye(3)[np.where(wrong, 2, truth)]
    rows = pd.DataFrame({"slide": slides})
    found = by_slide(Answers(rows, make_outcome(truth, p, list("abc")), np.ones(22)))
    assert [(row["name"], row["right"], row["images"], row["instead"]) for row in found] == [
        ("bad", 0, 5, ("c", 5)), ("small", 0, 4, ("c", 4)), ("half", 3, 6, ("c", 3)), ("good", 5, 5, None),
    ]  # fmt: skip
    assert say_slides(found) == (
        "All images wrong: 1 of 3 slides with 5 images or more: bad. 1 slide with fewer images does not count."
    )
    assert say_slides(found[1:2]).startswith("Too few images")
    assert "not known" in say_slides([])


def test_few_cases_get_words_and_not_figures(tmp_path: Path) -> None:
    text = words_of(render(read_run(write_project(tmp_path, ["a", "b", "c"], ["case"], cases=6), tmp_path)))
    assert "too few cases" in text
    assert "no interval can be given" in text


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("metrics/tissue-case/test.json", None, "it has not been tested yet"),
        ("metrics/tissue-case/details.json", None, "details.json is missing"),
        ("metrics/tissue-case/details.json", "{", "details.json is damaged"),
        ("metrics/tissue-case/details.json", "old", "made by an earlier version"),
        ("data/predictions/tissue-case.csv", None, "tissue-case.csv is missing"),
        ("data/predictions/tissue-case.csv", "a,b\n1,2\n", "not a table of predictions"),
        ("data/predictions/tissue-case.csv", "nan", "not a number"),
        ("data/predictions/tissue-case.csv", "class", "not a table of predictions"),
        ("metrics/split.json", None, "not known"),
        ("metrics/ingest.json", "[", "Verdict"),
        ("data/interim/labels.csv", None, "no picture"),
        ("data/raw/images", None, "no picture"),
    ],
)
def test_a_half_finished_run_gets_a_sentence_for_what_is_missing(
    copy: tuple[Path, Params], file: str, content: str | None, said: str
) -> None:
    root, params = copy
    path = root / file
    if content is None:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif content == "old":
        details = json.loads(path.read_text())
        write_json(path, {key: value for key, value in details.items() if key != "calibration"})
    elif content in ("nan", "class"):
        table = pd.read_csv(path)
        column, value = ("p_benign", np.nan) if content == "nan" else ("truth", "another")
        write_csv(path, table.assign(**{column: [value, *table[column][1:]]}))
    else:
        path.write_text(content)
    assert said in words_of(render(read_run(params, root)))


EDITS = [
    ("details", "image_level.macro_f1", "0.9"), ("details", "intervals.macro_f1", [0.1]), ("details", "per_class", []),
    ("details", "per_class.benign.support", None), ("details", "models", []), ("details", "models.0.temperature", {}),
    ("details", "calibration.after.ece", "low"), ("details", "abstention.image.risk", [1.0]), ("details", "", []),
    ("details", "operating_point.image.test", 1), ("details", "threshold", 7), ("details", "image_level", None),
    ("details", "decision.curve", {"threshold": [0.5], "model": [0.1], "all": []}), ("test", "macro_f1", []),
    ("details", "cases_right.right", "all"), ("val", "", 3),
]  # fmt: skip


@pytest.mark.parametrize(("file", "place", "value"), EDITS)
def test_an_edited_metrics_file_is_named_in_one_sentence_by_report_and_results(
    copy: tuple[Path, Params], file: str, place: str, value: Any
) -> None:
    root, params = copy
    path = root / f"metrics/tissue-case/{file}.json"
    content = json.loads(path.read_text())
    *way, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    holder = content
    for key in way:
        holder = holder[key]
    if place:
        holder[last] = value
    path.write_text(json.dumps(content if place else value))
    results, problems = read_results(params.tasks, params.protocols, read_run(params, root).scheme, root)
    assert results == [] or file == "test"
    if file != "test":
        assert re.search(
            rf"is not in this report: \S*{file}\.json (was|is) .*{re.escape(place)}.* Run `dvc repro`",
            problems[0],
        )
    if file == "test" or place.split(".")[0] in Summary.model_fields:  # the table of results reads no others
        with pytest.raises(DataError, match=rf"{file}\.json (was|is) .*Run `dvc repro`"):
            describe_results(root)


def test_a_result_that_is_left_out_is_told_on_the_screen_too(
    copy: tuple[Path, Params], capsys: pytest.CaptureFixture[str]
) -> None:
    root, params = copy
    (root / "metrics/tissue-case/details.json").write_text("[]")
    runpy.run_path(str(ROOT / "stages/report.py"))["report"](params, root)
    assert "warning: tissue, protocol case, is not in this report" in capsys.readouterr().err


def test_before_anything_has_run_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.json is missing"):
        read_run(make_params(), tmp_path)


def test_the_stage_writes_the_file_and_never_loads_tensorflow(
    copy: tuple[Path, Params], tmp_path: Path, run_alone: Callable[..., Any], set_params: Callable[..., Path]
) -> None:
    root, params = copy
    for item in root.iterdir():
        shutil.move(item, tmp_path / item.name)
    set_params({"labels": params.labels.model_dump(mode="json"), "tasks": ["tissue"], "protocols": ["case"]})
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('tensorflow was imported')\n")
    result = run_alone("report", env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"})
    assert result.returncode == 0, result.stderr
    assert "MB -> plots/report.html" in result.stdout
    assert (tmp_path / "plots/report.html").read_text() == render(
        read_run(read_params(tmp_path / "params.yaml"), tmp_path)
    )


def test_a_browser_shows_it_without_a_request_an_error_or_a_horizontal_scroll(
    project: tuple[Path, Params], tmp_path: Path, phone: tuple[Any, list[str]]
) -> None:
    (tmp_path / "report.html").write_text(render(read_run(project[1], project[0])))
    page, found = phone
    page.on("request", lambda asked: found.append(asked.url) if asked.url[:5] not in ("file:", "data:") else None)
    page.goto(f"file://{tmp_path / 'report.html'}")
    folded = "[...document.querySelectorAll('.fold .chart, .fold caption')].map((one) => one.checkVisibility())"
    assert not any(page.evaluate(folded))
    page.emulate_media(media="print")
    assert all(page.evaluate(folded))
    assert not page.locator("#checklists").is_visible()  # its lists are closed
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 less its margins
    tables = "[...document.querySelectorAll('table, figure')].map((one) => one.getBoundingClientRect().right)"
    assert max(page.evaluate(tables)) <= 718
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(media="screen")
    page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    charts = "[...document.querySelectorAll('.aside > figure')].map((one) => one.clientWidth)"
    assert min(page.evaluate(charts)) > 300  # and not half of the page
    table = page.get_by_role("region", name="Results")
    faded = "one => getComputedStyle(one).maskImage !== 'none'"  # or 0.917, cut off, would read as 0.9
    assert table.evaluate(faded)
    table.evaluate("one => one.scrollTo(one.scrollWidth, 0)")
    page.wait_for_function("() => !document.querySelector('[aria-label=Results]').classList.contains('more')")
    assert not table.evaluate(faded)
    head = page.get_by_role("region", name="by slide").get_by_role("columnheader", name="slide")
    names = "[...document.querySelectorAll('[aria-label$=\"by slide\"] tbody th')].map((cell) => cell.textContent)"
    unsorted = page.evaluate(names)
    for way in ("ascending", "descending"):
        head.get_by_role("button").press("Enter")
        assert head.get_attribute("aria-sort") == way
        assert page.evaluate(names) == sorted(unsorted, reverse=way == "descending") != unsorted
    assert violations(page) == []
    assert found == []


def test_the_checklists_have_every_item_and_say_what_the_run_knows_or_leave_it_to_the_author(
    project: tuple[Path, Params], tmp_path: Path
) -> None:
    root, params = project
    run = read_run(params, root)
    tripod, claim = checklists(run, run.results)
    of_tripod = (
        "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 18a 18b"
    )
    of_tripod += " 18c 18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"
    assert [str(row["item"]) for row in tripod["items"]] == of_tripod.split()
    assert [row["item"] for row in claim["items"]] == list(range(1, 45))
    rows = {f"{found['name'][0]}{row['item']}": row for found in (tripod, claim) for row in found["items"]}
    assert all(row.keys() == {"item", "asks", "run", "author"} for row in rows.values())
    assert all(row["run"] or row["author"].startswith("for the author") for row in rows.values())
    low, high = run.results[0].details["intervals"]["macro_f1"]
    value = run.results[0].details["image_level"]["macro_f1"]
    assert f"macro-F1 {value:.3f} (95 % interval {low:.3f} to {high:.3f}), 48 test images" in rows["T23a"]["run"]
    assert "0 of 48 test images come from slides seen in training" in rows["C19"]["run"]
    assert rows["C20"]["run"].startswith("Protocol case: no case is in two parts")
    assert rows["T18a"]["run"] is None
    assert "`biopsy report`" in rows["T18f"]["run"]
    assert "<code>biopsy report</code> prints" in render(run)
    assert rows["C30"]["run"] == "Figures by slide and by magnification."
    nothing, _ = checklists(replace(run, results=[], splits={}, ingest={}, impute={}), [])
    assert all(row["author"] for row in nothing["items"] if row["item"] in ("5a", 10, 11, "12a", "20a", "23a"))


def checklist_rows(root: Path, params: Params) -> dict[str, str]:
    run = read_run(params, root)
    found = checklists(run, run.results)
    return {f"{one['name'][0]}{row['item']}": str(row["run"]) for one in found for row in one["items"]}


def test_the_checklists_say_of_which_task_the_minority_was_doubled(project: tuple[Path, Params]) -> None:
    root, params = project
    for copies, said in ({"tissue": {"flip": True}}, "for tissue"), ({"other": {"flip": True}}, "no"):
        augment = params.augment.model_copy(update={"double_minority": True, "copies": copies})
        rows = checklist_rows(root, params.model_copy(update={"augment": augment}))
        assert rows["T13"].endswith(f"minority doubled: {said}.")


def test_the_checklists_say_how_a_probe_was_chosen_and_that_it_has_learnt_from_validation(
    project: tuple[Path, Params],
) -> None:
    root, params = project
    head = params.model.head.model_copy(update={"kind": "probe"})
    for refit in (True, False):
        probe = params.model.probe.model_copy(update={"refit": refit, "weights": "case", "C": [1.0, 10.0]})
        model = params.model.model_copy(update={"head": head, "probe": probe})
        probing = params.model_copy(update={"model": model})
        rows = checklist_rows(root, probing)
        assert rows["C26"].startswith("C by a cross-validation of 5 folds inside the training part")
        assert ("once more on training and validation" in rows["C26"]) == refit
        assert "at random" not in rows["C24"].split("head:")[1]
        assert rows["T13"] == "Each class and, within it, each case weighs the same."
        said = words_of(render(read_run(probing, root)))
        assert "Validation chose the epoch" not in said
        assert ("before it was fitted once more" in said) == refit
    last = params.model_copy(update={"train": params.train.model_copy(update={"monitor": "none"})})
    assert checklist_rows(root, last)["C26"].startswith("The last epoch")
    assert "Validation chose the epoch" not in words_of(render(read_run(last, root)))


def test_the_checklists_claim_no_figures_by_slide_where_slides_are_not_known(copy: tuple[Path, Params]) -> None:
    root, params = copy
    path = root / "data/predictions/tissue-case.csv"
    write_csv(path, pd.read_csv(path, dtype=str).assign(slide="", magnification=""))
    rows = checklist_rows(root, params)
    assert {rows[item] for item in ("T12d", "T23b", "C30")} == {"None"}


def test_test_cases_in_validation_are_a_leak_too(copy: tuple[Path, Params]) -> None:
    root, params = copy
    path = root / "metrics/split.json"
    split = json.loads(path.read_text())
    split["case"]["shared"]["cases"]["val_test"] = 2
    write_json(path, split)
    said = words_of(render(read_run(params, root)))
    assert "too high for new patients: validation and test share 2 cases" in said
    assert "No test image shares a case" not in said
    split["case"]["shared"]["cases"] = {"train_val": 1, "train_test": 0, "val_test": 0}
    write_json(path, split)
    assert checklist_rows(root, params)["C20"].startswith("Protocol case: cases are in two parts")


def test_what_guessing_gives_depends_on_how_rare_the_classes_of_the_test_images_are() -> None:
    rng, truth = np.random.default_rng(0), np.repeat([0, 1, 2], [900, 80, 20])
    rare = {"per_class": {name: {"support": n} for name, n in zip("abcd", (900, 80, 20, 0), strict=True)}}
    drawn = [f1_score(truth, rng.integers(0, 4, len(truth)), labels=[0, 1, 2], average="macro") for _ in range(200)]
    assert guessing(rare) == pytest.approx(np.mean(drawn), abs=0.005)
    assert guessing({"per_class": {"a": {"support": 5}, "b": {"support": 5}}}) == 0.5


def test_names_of_any_script_and_length_are_shown_whole_and_keep_their_numbers(
    tmp_path: Path, phone: tuple[Any, list[str]]
) -> None:
    names = [
        "\u05e9\u05e4\u05d9\u05e8",
        "invasive carcinoma of no special type " * 5,
        "Nichtinvasivesduktalkarzinom" * 5,
    ]
    params = write_project(tmp_path, [name.strip() for name in names], ["case"], cases=15)
    page, found = phone
    (tmp_path / "report.html").write_text(render(read_run(params, tmp_path)))
    page.goto(f"file://{tmp_path / 'report.html'}")
    page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    places = """(at) => {
        const left = (what) => {
            const walk = document.createTreeWalker(document.querySelector(at), NodeFilter.SHOW_TEXT);
            while (walk.nextNode()) {
                const i = walk.currentNode.data.search(what), range = document.createRange();
                if (i < 0) continue;
                range.setStart(walk.currentNode, i);
                range.setEnd(walk.currentNode, i + 1);
                return range.getBoundingClientRect().left;
            }
        };
        return [left(/ש/), left(/[0-9]/)];
    }"""
    name, area = page.evaluate(places, "figcaption .key")  # the number stands after the name, not before it
    assert name < area
    assert found == []


def test_validation_images_are_not_counted_as_those_that_the_network_was_trained_on(copy: tuple[Path, Params]) -> None:
    root, params = copy
    path = root / "data/predictions/tissue-case-images.csv"
    looks = pd.read_csv(path, dtype=str)
    trained = int((looks["part"] == "train").sum())
    looks.loc[looks.index[looks["part"] == "train"][:5], "part"] = "val"
    write_csv(path, looks)
    assert f"The network was trained on {trained - 5} images of these" in words_of(render(read_run(params, root)))
