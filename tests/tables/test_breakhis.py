import csv
from pathlib import Path

import pytest

from biopsy.tables.labels.breakhis import (
    MAGNIFICATIONS,
    TYPES,
    Name,
    case_of,
    facts,
    parse,
)
from biopsy.tables.names import facts_of
from schemes import BREAKHIS


def test_a_file_name_tells_class_type_slide_case_magnification() -> None:
    expected = Name("malignant", "DC", 14, "10926", "10926", 100, 3)
    assert parse("SOB_M_DC-14-10926-100-003.png") == expected
    assert parse("a/b/SOB_M_DC-14-10926-100-003.png") == expected


def test_slides_of_one_number_are_one_case() -> None:
    found = parse("SOB_B_A-14-22549AB-40-001.png")
    assert found is not None
    assert (found.slide, found.case) == ("22549AB", "22549")
    assert case_of("22549CD") == case_of("22549G") == "22549"


@pytest.mark.parametrize(
    "name",
    [
        "holiday.png",
        "SOB_B_DC-14-10926-100-003.png",  # a carcinoma under B
        "SOB_M_A-14-10926-100-003.png",
        "SOB_M_XX-14-10926-100-003.png",
        "SOB_M_DC-14-10926-300-003.png",
        "SOB_M_DC-14-10926-100-003-copy.png",
        "sob_m_dc-14-10926-100-003.png",
    ],
)
def test_other_names_tell_nothing(name: str) -> None:
    assert parse(name) is None


def test_the_grammar_holds_for_all_7909_names(real_data: Path) -> None:
    with (real_data / "sha256.csv").open() as stream:
        names = [parse(row["image_id"] + ".png") for row in csv.DictReader(stream)]
    found = [name for name in names if name]
    assert len(found) == len(names) == 7909
    assert len({name.slide for name in found}) == 81
    assert len({(name.subtype, name.slide) for name in found}) == 82
    assert len({name.case for name in found}) == 70
    assert {name.magnification for name in found} == set(MAGNIFICATIONS)
    assert sum(name.label == "benign" for name in found) == 2480


def test_the_scheme_of_breakhis_has_the_classes_of_the_file_names() -> None:
    assert BREAKHIS.columns == ["binary", "multiclass"]
    assert BREAKHIS["multiclass"].parents == {code: label for code, (label, _) in TYPES.items()}
    assert BREAKHIS["multiclass"].words == {code: words for code, (_, words) in TYPES.items()}
    assert set(facts("SOB_M_DC-14-10926-100-003.png") or {}) == {*facts_of(BREAKHIS)}


def test_labels_are_read_in_every_spelling() -> None:
    assert [BREAKHIS.read("binary", text) for text in ("Benign", "MALIGNANT", "b", "")] == [
        "benign", "malignant", "benign", "",
    ]  # fmt: skip
    for code, (_, name) in TYPES.items():
        for text in (code, code.lower(), name, name.title(), name.replace(" ", "_").upper()):
            assert BREAKHIS.read("multiclass", text) == code
    assert [BREAKHIS.read("binary", "benin"), BREAKHIS.read("multiclass", "sarcoma")] == [None, None]
