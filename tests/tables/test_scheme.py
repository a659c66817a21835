"""Label schemes: what is read, what is taken from the CSV, and what cannot be a scheme."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from biopsy.core.errors import DataError, ParamsError
from biopsy.core.params import parse_params
from biopsy.tables.labels.scheme import FEW, LabelScheme, finest, read_scheme, write_scheme
from schemes import BREAKHIS, LABELS, TASKS, params, scheme

AB = {"column": "c", "classes": ["a", "b"]}


def rejection(tasks: Any, **more: Any) -> str:
    with pytest.raises(ParamsError) as caught:
        parse_params({"labels": {"name": "test", "tasks": tasks, **more}, "tasks": [next(iter(tasks), "x")]})
    return str(caught.value)


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ({}, "labels.tasks"),
        ({"t": {"column": "c", "classes": []}}, "names 0 classes; a task has 2 to 30"),
        ({"t": {"column": "c", "classes": ["a"]}}, "names 1 class; a task has 2 to 30"),
        ({"t": {"column": "c", "classes": list(range(31))}}, "names 31 classes; a task has 2 to 30"),
        ({"t": {"column": "c", "classes": ["a", "a"]}}, "is in the list twice"),
        ({"t": {"column": "c", "classes": {"a": {"synonyms": ["x"]}, "b": {"synonyms": ["X "]}}}}, "'x' means both"),
        ({"t": {"column": "c", "classes": {"a": {}, "b": {"name": "A"}}}}, "'a' means both 'a' and 'b'"),
        ({"t": {**AB, "positive": ["B2"]}}, "names 'B2', which is not a class of the task. Did you mean 'b'?"),
        ({"t": {**AB, "positive": ["a", "b"]}}, "names every class"),
        ({"t": {**AB, "parent": "u"}, "v": AB}, "labels.tasks.t.parent is 'u', which must be another task"),
        ({"t": {**AB, "parent": "t"}}, "must be another task"),
        ({"t": {**AB, "parent": "v"}, "v": AB}, "has no parent; it must be one of a, b, the classes of 'v'"),
        (
            {"t": {"column": "c", "parent": "v", "classes": {"x": {"parent": "a"}, "y": {"parent": "z"}}}, "v": AB},
            "labels.tasks.t.classes.y has the parent 'z'; it must be one of a, b",
        ),
        ({"t": {"column": "c", "classes": {"a": {"parent": "v"}, "b": {}}}}, "names a parent, and the task names none"),
        ({"t": {"column": "c", "classes": {"a": {"parent": ["v", "w"]}, "b": {}}}}, "classes.a.parent"),
        ({"t": {"column": "c", "classes": {"a": {"colour": "red"}, "b": {}}}}, "classes.a.colour"),
        ({"t": {"column": None, "classes": "from_csv"}}, "labels.tasks.t.column is null, and its classes come from"),
        ({"slide": AB}, "'slide' is a column of the pipeline's tables"),
        ({"Not A Name": AB}, "Not A Name"),
    ],
)
def test_what_cannot_be_a_scheme_is_one_sentence(tasks: Any, words: str) -> None:
    assert words in rejection(tasks)


def test_a_misspelt_key_of_a_class_is_the_only_complaint() -> None:
    message = rejection({"t": {"column": "c", "classes": {"a": {"synonym": "x"}, "b": {}}}})
    assert message.startswith("params.yaml: unknown parameter 'labels.tasks.t.classes.a.synonym'.")


def test_a_task_that_the_scheme_lacks_names_the_nearest() -> None:
    with pytest.raises(
        ParamsError, match=r"tasks lists 'multclass'.*'breakhis' does not have.*Did you mean 'multiclass'"
    ):
        params(tasks=["multclass"])
    with pytest.raises(ParamsError, match=r"train\.epochs has no number for task 'multiclass'"):
        params(train={"epochs": {"binary": 3}})


def test_labels_of_numbers_and_signs_are_text_and_a_map_translates_them() -> None:
    numbers = scheme(t={"column": "c", "classes": [0, 1], "positive": [1]})
    assert [numbers.read("t", text) for text in ("0", "1", "2")] == ["0", "1", None]
    signs = scheme(t={"column": "c", "classes": ["+", "-"]})
    assert [signs.read("t", text) for text in ("+", "-")] == ["+", "-"]
    labels = {**LABELS, "map": {0: "benign", 1: "malignant"}}
    mapped = parse_params({"labels": labels, "tasks": TASKS}).labels
    assert mapped.map == {"0": "benign", "1": "malignant"}
    gaps = parse_params({"labels": {**LABELS, "map": {0: "benign", 9: None}}, "tasks": TASKS}).labels
    assert [LabelScheme.of(gaps).mapped(text) for text in ("0.0", "9", "8")] == ["benign", "", "8"]
    with pytest.raises(ParamsError, match=r"labels\.map\.0 is \[1\]; it must be a word"):
        parse_params({"labels": {**LABELS, "map": {0: [1]}}, "tasks": TASKS})


def test_the_positive_one_of_two_classes_stands_last() -> None:
    task = scheme(t={"column": "c", "classes": ["cancer", "normal"], "positive": ["cancer"]})["t"]
    assert task.names == ["normal", "cancer"]
    assert list(task.colours.values()) == list(FEW[:2])


def test_classes_are_taken_from_the_csv_sorted_and_spellings_of_one_are_one() -> None:
    found = scheme(t={"column": "c", "classes": "from_csv"}).with_classes(
        "t", ["b", "A", "", "a", "A"], "x.csv: column 'c'"
    )
    assert found["t"].names == ["A", "b"]
    assert [found.read("t", text) for text in ("a", "B")] == ["A", "b"]
    signs = scheme(t={"column": "c", "classes": "from_csv"}).with_classes("t", ["-1", "0", "1", "1.0"], "x.csv")
    assert [signs.read("t", text) for text in ("-1", "1", "1.0")] == ["-1", "1", "1"]


@pytest.mark.parametrize(
    ("values", "positive", "words"),
    [
        ([str(i) for i in range(500)], [], "x.csv holds 500 different values"),
        (["a", "a"], [], "x.csv holds one value, 'a'; a task needs two classes"),
        ([""], [], "x.csv holds no value"),
        (["benign", "cancer"], ["cancr"], "names 'cancr', and x.csv holds benign, cancer. Did you mean 'cancer'?"),
    ],
)
def test_a_column_that_holds_no_classes_is_one_sentence(values: list[str], positive: list[str], words: str) -> None:
    unknown = scheme(t={"column": "c", "classes": "from_csv", "positive": positive})
    with pytest.raises(DataError) as caught:
        unknown.with_classes("t", values, "x.csv")
    assert words in str(caught.value)


def test_a_scheme_is_read_back_as_it_was_written_and_a_broken_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    write_scheme(path, BREAKHIS)
    assert read_scheme(path) == BREAKHIS
    one = BREAKHIS.model_dump()
    one["tasks"]["binary"]["classes"] = one["tasks"]["binary"]["classes"][:1]
    one["tasks"]["binary"]["positive"] = []
    none = {**one, "tasks": {}}
    for content in ("", "[]", '{"binary": ["benign", "malignant"]}', json.dumps(one), json.dumps(none)):
        path.write_text(content)
        with pytest.raises(DataError, match=r"labels\.json is not a label scheme.*dvc repro impute"):
            read_scheme(path)
    path.unlink()
    with pytest.raises(DataError, match="is missing"):
        read_scheme(path)


def test_the_finest_known_label_is_that_of_the_child_task() -> None:
    table = pd.DataFrame({"binary": ["benign", "benign", ""], "multiclass": ["A", "", ""]})
    assert finest(table, BREAKHIS) == ["A", "benign", "unlabelled"]
