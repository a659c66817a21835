from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from biopsy.core.errors import DataError
from biopsy.tables.impute import impute
from schemes import params

DC, A = "SOB_M_DC-14-10926-100-003.png", "SOB_B_A-14-22549AB-40-001.png"
FACTS = ["path", "binary", "multiclass", "magnification", "slide", "case"]


def table(*rows: tuple[str, ...]) -> pd.DataFrame:
    """Images of (path, class, subtype, magnification, slide, case); what is left off is empty."""
    full = [(*row, *[""] * (6 - len(row))) for row in rows]
    images = pd.DataFrame(full, columns=FACTS)
    return images.assign(
        row=range(2, len(rows) + 2),
        image_id=[Path(path).stem for path in images["path"]],
        mpp="",
        width=700,
        height=460,
        pixels_sha256="0",
    )


def imputed(*rows: tuple[str, ...], **changes: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    labels, _, counts = impute(table(*rows), params(**changes), Path("metadata.csv"))
    return labels, counts


def refusal(*rows: tuple[str, ...], **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        imputed(*rows, **changes)
    assert str(caught.value).startswith("metadata.csv: ")
    return str(caught.value)


def test_gaps_are_filled_from_the_file_name_and_listed() -> None:
    labels, counts = imputed((DC, "malignant", "DC", "100"), (A,))
    assert list(labels.columns) == [
        "image_id", "path", "binary", "multiclass", "magnification", "mpp", "slide", "case", "width", "height",
        "pixels_sha256",
    ]  # fmt: skip
    assert labels[FACTS].to_numpy().tolist() == [
        [A, "benign", "A", "40", "22549AB", "22549"],
        [DC, "malignant", "DC", "100", "10926", "10926"],
    ]
    assert counts["filled"]["binary"] == {"count": 1, "rows": [3]}
    assert counts["filled"]["magnification"] == {"count": 1, "rows": [3]}
    assert counts["read_off_names"] == ["slide", "case"]


def test_gaps_are_counted_also_where_the_file_name_is_trusted_more_than_the_csv() -> None:
    _, expected = imputed((DC, "malignant", "DC", "100"), (A,))
    _, counts = imputed((DC, "malignant", "DC", "100"), (A,), impute={"contradiction": "trust_name"})
    assert [counts[key] for key in ("filled", "read_off_names")] == [
        expected[key] for key in ("filled", "read_off_names")
    ]


def test_a_label_that_was_edited_between_the_stages_is_named() -> None:
    with pytest.raises(DataError, match=r"images\.csv row 3: 'x' is not a class of task 'multiclass'.*dvc repro"):
        imputed((DC, "malignant", "DC", "100"), (A, "benign", "x"))


def test_a_contradiction_is_an_error_with_row_and_both_values() -> None:
    message = refusal((A,), (DC, "benign", "A", "40"))
    assert "3 facts contradict their file names" in message
    assert "row 3: binary 'benign', file name 'malignant'" in message
    assert "row 3: magnification '40', file name '100'" in message
    assert "set impute.contradiction to trust_csv or trust_name" in message


def test_a_contradiction_is_settled_as_params_say_and_counted() -> None:
    rows = [(A,), (DC, "benign", "F", "", "10926")]
    labels, counts = imputed(*rows, impute={"contradiction": "trust_csv"})
    assert labels.iloc[1][["binary", "multiclass"]].tolist() == ["benign", "F"]
    assert counts["contradictions"]["count"] == 2
    labels, _ = imputed(*rows, impute={"contradiction": "trust_name"})
    assert labels.iloc[1][["binary", "multiclass"]].tolist() == ["malignant", "DC"]


def test_where_the_csv_is_trusted_on_the_class_the_name_does_not_tell_the_type() -> None:
    changes = {"impute": {"contradiction": "trust_csv"}}
    labels, counts = imputed((DC, "benign"), tasks=["binary"], **changes)
    assert labels.iloc[0][["binary", "multiclass"]].tolist() == ["benign", ""]
    assert counts["unlabelled"]["left"] == {"binary": 0, "multiclass": 1}
    assert "1 row without a label of task 'multiclass'" in refusal((DC, "benign"), **changes)
    labels, _ = imputed((DC, "", "F"), **changes)
    assert labels.iloc[0][["binary", "multiclass"]].tolist() == ["benign", "F"]


def test_a_class_that_is_not_that_of_the_type_is_an_error() -> None:
    message = refusal(("x.png", "benign", "DC", "", "S1"))
    assert "1 row whose binary label is not that of the multiclass label (row 2: benign DC)" in message


def test_the_class_follows_from_the_type() -> None:
    labels, _ = imputed(("x.png", "", "MC", "", "S1"))
    assert labels.iloc[0]["binary"] == "malignant"


def test_an_image_without_a_class_names_the_column_to_fill() -> None:
    message = refusal(("x.png", "", "", "", "S1"), tasks=["binary"])
    assert (
        "1 row without a label of task 'binary', and file names that do not follow breakhis (row 2: x.png)" in message
    )
    assert "Fill in the column 'Benign or Malignant', or set impute.unlabelled to drop" in message


def test_an_image_without_slide_and_case_is_left_to_the_protocols_that_need_one() -> None:
    labels, counts = imputed((DC,), ("x.png", "benign", "A"))
    assert labels.set_index("path").loc["x.png", ["slide", "case"]].tolist() == ["", ""]
    assert (counts["slides"], counts["cases"]) == (1, 1)


def test_rows_without_a_label_are_dropped_where_params_say_so_and_counted() -> None:
    rows = [(DC,), ("x.png", "", "", "", "S1"), ("y.png", "benign", "", "", "S2")]
    labels, counts = imputed(*rows, tasks=["binary"], impute={"unlabelled": "drop"})
    assert labels["path"].tolist() == [DC, "y.png"]
    assert counts["unlabelled"]["dropped"] == 1
    labels, counts = imputed(*rows, impute={"unlabelled": "drop"})
    assert labels["path"].tolist() == [DC]
    assert counts["unlabelled"]["dropped"] == 2


def test_an_image_without_a_type_matters_to_the_task_multiclass_alone() -> None:
    rows = [(DC,), ("x.png", "benign", "", "", "S1")]
    assert "set tasks to [binary]" in refusal(*rows)
    labels, counts = imputed(*rows, tasks=["binary"])
    assert labels["multiclass"].tolist() == ["DC", ""]
    assert counts["unlabelled"]["left"] == {"binary": 0, "multiclass": 1}


def test_slide_and_case_stand_in_for_each_other_where_names_do_not_tell() -> None:
    for row, both in ((("x.png", "benign", "A", "", "S1"), "S1"), (("x.png", "benign", "A", "", "", "P1"), "P1")):
        assert imputed(row)[0][["slide", "case"]].to_numpy().tolist() == [[both, both]]


def test_slides_that_stand_for_unknown_cases_are_counted_since_a_patient_may_have_several() -> None:
    slides = [(f"{i}.png", "benign", "A", "", f"TCGA-A1-0001-01Z-00-DX{i}") for i in (1, 2)]
    assert imputed(*slides, slides[0])[1]["slides_as_cases"] == 2
    assert imputed(*((*row, "TCGA-A1-0001") for row in slides))[1]["slides_as_cases"] == 0
    assert imputed((DC, "malignant"), ("x.png", "benign", "A"))[1]["slides_as_cases"] == 0
    assert imputed((DC,), ("x.png", "benign", "A", "", "S1"))[1]["slides_as_cases"] == 1
    dropped = imputed(*slides, ("y.png", "", "", "", "S3"), impute={"unlabelled": "drop"})[1]
    assert dropped["slides_as_cases"] == 2


def test_the_csvs_case_wins_over_the_slides_number() -> None:
    labels, _ = imputed((A, "", "", "", "", "patient 7"))
    assert labels.iloc[0][["slide", "case"]].tolist() == ["22549AB", "patient 7"]


def test_a_slide_that_contradicts_its_name_is_an_error_and_trusted_is_its_own_case() -> None:
    assert "row 2: slide 'S1', file name '22549AB'" in refusal((A, "", "", "", "S1"))
    labels, _ = imputed((A, "", "", "", "S1"), impute={"contradiction": "trust_csv"})
    assert labels.iloc[0][["slide", "case"]].tolist() == ["S1", "S1"]


@pytest.mark.parametrize("unit", ["case", "slide"])
def test_labels_that_are_the_cases_or_slides_are_an_error(unit: str) -> None:
    labels = ("A", "A", "F", "DC")
    ids = [("", name.lower()) if unit == "case" else (name.lower(), f"p{name}") for name in labels]
    rows = [(f"{n}.png", "", name, "", *ids[n]) for n, name in enumerate(labels)]
    words = refusal(*rows, tasks=["multiclass"])
    assert f"the labels of task 'multiclass' are the {unit}s (A, DC, F)" in words
    assert "labels.tasks.multiclass.column" in words
    assert f"ingest.columns.{unit}" in words


def test_a_slide_in_two_cases_is_an_error() -> None:
    message = refusal(("x.png", "benign", "A", "", "1", "P1"), ("y.png", "benign", "A", "", "1", "P2"))
    assert "2 rows with a slide that is in several cases (row 2: 1 P1, row 3: 1 P2)" in message


def test_a_case_column_with_gaps_is_refused_since_one_case_would_become_two() -> None:
    other = A.replace("22549AB", "22549CD")
    message = refusal((A, "", "", "", "", "patient 7"), (other,), (DC,))
    assert "2 rows of 3 without a case, which the other rows have" in message
    assert f"(row 3: {other}, row 4: {DC})" in message
    assert "Fill in the column that ingest.columns.case names, or set ingest.columns.case to null." in message


def test_a_gap_in_the_case_column_is_filled_from_another_row_of_the_slide() -> None:
    again = A.replace("-001", "-002")
    mine = [("x.png", "benign", "A", "", "S1", "P1"), ("y.png", "benign", "A", "", "S1")]
    labels, counts = imputed((A, "", "", "", "", "patient 7"), (again,), *mine)
    assert labels.set_index("path")["case"].to_dict() == {
        A: "patient 7", again: "patient 7", "x.png": "P1", "y.png": "P1"
    }  # fmt: skip
    assert counts["filled"]["case"] == {"count": 2, "rows": [3, 5]}
    assert counts["cases"] == 2


def test_a_gap_is_not_filled_where_the_slide_has_two_cases() -> None:
    rows = [("x.png", "benign", "A", "", "1", case) for case in ("P1", "P2", "")]
    assert "3 rows with a slide that is in several cases" in refusal(*rows)


def test_a_slide_written_in_small_letters_is_the_file_names_slide() -> None:
    again = A.replace("-001", "-002")
    labels, counts = imputed((A, "", "", "", "22549ab"), (again,))
    assert set(labels["slide"]) == {"22549AB"}
    assert (counts["slides"], counts["contradictions"]["count"]) == (1, 0)
    labels, _ = imputed((A, "", "", "", "", "P1"), ("x.png", "benign", "A", "", "22549Ab", "P1"))
    assert set(labels["slide"]) == {"22549AB"}


def test_unknown_magnifications_are_counted() -> None:
    labels, counts = imputed(("x.png", "benign", "A", "", "S1"), (DC,))
    assert set(labels["magnification"]) == {"", "100"}
    assert counts["without_magnification"] == 1


def test_slides_and_cases_in_another_spelling_than_the_file_names_are_one() -> None:
    labels, _ = imputed((DC, "malignant", "DC", "100", " 10926"), (A, "", "", "", "22549ab"))
    assert list(labels["slide"]) == ["22549AB", "10926"]
    assert list(labels["case"]) == ["22549", "10926"]


def test_ids_that_leading_zeros_or_a_point_zero_tell_apart_stay_apart_and_are_listed() -> None:
    rows = [(f"{i}.png", "benign", "A", "40", f"s{i}", case) for i, case in enumerate(["007", "7", "7.0", "8"])]
    labels, counts = imputed(*rows)
    assert labels["case"].nunique() == 4
    assert counts["alike"]["case"] == {"count": 1, "listed": [["007", "7", "7.0"]]}
