import unicodedata

import pytest

from biopsy.core.text import alike, changed, first_spellings, id_key, is_missing, look_up, plain

NFC, NFD = (unicodedata.normalize(form, "Müller-1") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    "spellings",
    [
        ["P01", "p01", " P01 ", "P 01", "P\u00a001", "\ufeffP01", "P\u200b01"],
        [NFC, NFD, NFD.upper()],
        ["Straße", "STRASSE"],
        ["P-1", "P\u20111", "P\u20131", "\uff30-\uff11", "P\u22121"],
        ["ipek", "İPEK", "IPEK"],
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
    assert alike(["1.2E+05", "120000", "1,200", "1200", "7,0", "7"]) == [
        ["1,200", "1200"],
        ["1.2E+05", "120000"],
        ["7", "7,0"],
    ]
    assert alike(["1,2E+05", "120000"]) == [["1,2E+05", "120000"]]
    assert alike(["P_1", "P-1", "P.1", "P1", "1-12", "11-2"]) == [["P-1", "P.1", "P_1"]]
    slides = ["TCGA-A1-0001-01Z-00-DX1", "tcga-a1-0001-01A-02", "TCGA-A1-0002-01Z-00-DX1", "TCGA-A1-0003"]
    assert alike(slides) == []
    assert alike(slides, of_patients=True) == [sorted(slides[:2])]
    assert alike(["P1", "\u04201", "S2"]) == [["P1", "\u04201"]]  # a Cyrillic letter that looks like P


def test_ids_and_labels_that_a_spreadsheet_has_changed_are_listed() -> None:
    wrong = ["1.23E+17", "1E+05", "4-Mar", "Mar-04", "03-Mar-2020", "2020-03-04 00:00:00", "12345678901200000"]
    assert changed([*wrong, "1E+05"]) == sorted(wrong)
    german = ["1,23457E+12", "03. Mrz", "1. Mai", "04-Okt", "12345678901200000,0", "3. Mär"]
    assert changed(german) == sorted(german)
    assert changed(["P1", "20200304", "3-4", "march", "E1", "2020-03-04", "123456789012", "1e", "", "1.5"]) == []


def test_signs_and_decimals_tell_labels_apart_and_other_punctuation_does_not() -> None:
    apart = ["ER+", "ER-", "ER", "-1", "1", "1.5", "15", "1-5", "<5", ">5", "+", "-"]
    assert len({plain(text) for text in apart}) == len(apart)
    for same in (
        ["In_Situ", "in-situ", "in situ."],
        ["1", "1.0"],
        ["3 + 4", "3+4"],
        ["HER2\u2212", "her2 (-)"],
        ["\u22121", "-1"],
    ):
        assert len({plain(text) for text in same}) == 1


def test_labels_of_two_unicode_forms_are_one() -> None:
    assert plain("bo\u0308sartig") == plain("B\u00f6sartig") != plain("bosartig")


def test_a_word_of_a_map_is_found_as_yaml_writes_it() -> None:
    words = {"True": "a", "0": "b", "-1": "c", "1": "d"}
    assert [look_up(words, text) for text in ("TRUE", "0.0", "-1", "1", "2")] == ["a", "b", "c", "d", None]


@pytest.mark.parametrize(
    "cell",
    ["", " ", "NA", "n/a", "NaN", "NULL", "None", "?", "-", "--", "'--", "Not Reported", "unknown"],
)
def test_every_usual_mark_of_a_missing_value_is_known(cell: str) -> None:
    assert is_missing(cell)
    assert not is_missing(cell + "x")


@pytest.mark.parametrize(
    "cell", ["[Not Available]", "[not applicable]", "#N/A", "<NA>", "NaT", "#DIV/0!", "(null)", "."]
)
def test_marks_of_spreadsheets_and_registries_are_known_in_their_brackets(cell: str) -> None:
    assert is_missing(cell)
