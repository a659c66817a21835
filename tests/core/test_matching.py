"""Files that are there, under a path that the table writes in another way."""

import unicodedata

import pytest

from biopsy.core.matching import LOOSE, match_files

NFC, NFD = (unicodedata.normalize(form, "Müller/ä.png") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("path", "file", "reason"),
    [
        ("a0", "a0.tif", "ending left out"),
        ("x/a.v2", "x/a.v2.png", "ending left out"),
        ("A0", "a0.tif", "ending left out"),
        ("a.png", "a.PNG", "letter case"),
        ("IMAGES/A.png", "images/a.png", "letter case"),
        (NFC, NFD, "Unicode form"),
        (NFD, NFC, "Unicode form"),
        ("../data/x/a.png", "x/a.png", "folders before it"),
        ("../../a", "a.jpg", "ending left out and folders before it"),
        ("/home/me/images/x/a.png", "x/a.png", "folders before it"),
        ("data/images/a.png", "a.png", "folders before it"),
        ("C:\\me\\x\\a.png", "x/a.png", "folders before it and backslash"),
        ("x\\a.png", "x/a.png", "backslash"),
        ("\u202aC:\\me\\a.png", "a.png", "folders before it and backslash"),
        ('"C:\\me\\a.png"', "a.png", "folders before it and backslash and quotes"),
        ("a.png\u200b", "a.png", "invisible characters"),
        ("https://host/set/a.png", "a.png", "folders before it"),
        ("data//a.png", "a.png", "folders before it"),
        ("a.png", "benign/40X/a.png", "folder left out"),
        ("40X/a", "benign/40X/a.tif", "folder left out"),
        ("im%201.png", "im 1.png", LOOSE),
        ("a1", "a1 .png", LOOSE),
        ("7", "0007.png", LOOSE),
        ("7.0", "x/007.png", f"folder left out and {LOOSE}"),
        ("/d/x/7", "x/07.png", f"{LOOSE} and folders before it"),
        ("TCGA-01-DX1", "TCGA-01-DX1.8d6f.png", "end of the name left out"),
        ("TCGA-01-DX1", "8d6f/TCGA-01-DX1.8d6f.png", "folder left out and end of the name left out"),
    ],
)
def test_a_path_finds_the_one_file_that_it_can_mean_and_says_why(path: str, file: str, reason: str) -> None:
    found = match_files([path], [file, "other.png"])
    assert (found.files, found.reasons, found.hints) == ({path: file}, {path: reason}, {})


@pytest.mark.parametrize(
    ("paths", "files", "hint"),
    [
        (["a"], ["a.png", "a.tif"], "2 files fit: a.png, a.tif"),
        (["A.png"], ["a.PNG", "a.png"], "2 files fit: a.PNG, a.png"),
        (["a.png"], ["x/a.png", "y/a.png"], "2 files fit: x/a.png, y/a.png"),
        (["a.png", "A.png"], ["A.png"], "A.png fits, and another row names it too"),
        (
            ["../x/a.png", "../y/b.png"],
            ["a.png", "b.png"],
            "a.png fits without '../x/', but other rows begin otherwise",
        ),
        (["test/a.png", "b.png"], ["a.png", "b.png"], "a.png is there, without 'test/'"),
        (["a.jpg"], ["a.png"], "a.png is there, with another ending"),
        (["7"], ["07.png", "007.png"], "2 files fit: 007.png, 07.png"),
        (["7", "07"], ["007.png"], "007.png fits, and another row names it too"),
        (["/home/me/a.png"], ["x/a.png"], "x/a.png is there, in another folder"),
        (["/home/me/a"], ["x/a.png"], "x/a.png is there, in another folder"),
        (["y/a.png"], ["x/a.png"], "x/a.png is there, in another folder"),
        (["4"], ["x/40_1.png", "x/4_1.png", "x/4_2.png"], "x/4_1.png is there, whose name is longer"),
        (["a.avif"], ["b.png"], "files of this kind are not read; make it a PNG"),
    ],
)
def test_a_path_that_could_mean_another_file_finds_none_and_says_what_is_there(
    paths: list[str], files: list[str], hint: str
) -> None:
    found = match_files(paths, files)
    assert paths[0] not in found.files
    assert found.hints[paths[0]] == hint


@pytest.mark.parametrize(
    "path", ["a.png", "a07", "07.jpg", "./x//b.png", "x/../../b.png", "gone.png", "../gone.png", "./", "/", "..", ""]
)
def test_exact_paths_and_those_that_fit_nothing_stay_as_they_are(path: str) -> None:
    found = match_files([path], ["a.png", "x/b.png", "a7.png", "7.png"])
    assert not found.files
    assert not found.hints
