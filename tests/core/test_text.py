import unicodedata

import pytest

from biopsy.core.text import alike, first_spellings, id_key, is_missing

NFC, NFD = (unicodedata.normalize(form, "Müller-1") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    "spellings",
    [
        ["P01", "p01", " P01 ", "P 01", "P\u00a001", "\ufeffP01", "P\u200b01"],
        [NFC, NFD, NFD.upper()],
        ["Straße", "STRASSE"],
    ],
)
def test_letter_case_unicode_form_and_blanks_make_no_second_id(spellings: list[str]) -> None:
    assert len({id_key(text) for text in spellings}) == 1
    assert first_spellings(spellings) == spellings[:1] * len(spellings)


def test_ids_that_differ_in_more_stay_apart() -> None:
    ids = ["7", "007", "7.0", "P-1", "P1", "P_1", "e", "é"]
    assert first_spellings(ids) == ids


def test_ids_that_differ_in_leading_zeros_or_a_point_zero_are_grouped() -> None:
    assert alike(["7", "007", "7.0", "8", "P-01", "p-1", "S1.05", "S1.5", "70", "7"]) == [
        ["007", "7", "7.0"],
        ["P-01", "p-1"],
    ]
    assert alike(["22549AB", "22549CD", "10", "100", "0", ""]) == []


@pytest.mark.parametrize(
    "cell", ["", " ", "NA", "n/a", "NaN", "NULL", "None", "?", "-", "--", "'--", "Not Reported", "unknown"]
)
def test_every_usual_mark_of_a_missing_value_is_known(cell: str) -> None:
    assert is_missing(cell)
    assert not is_missing(cell + "x")
