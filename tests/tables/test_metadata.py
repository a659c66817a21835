import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from biopsy.core.errors import DataError
from biopsy.core.sections.data import Columns, Ingest
from biopsy.tables.labels.scheme import LabelScheme
from biopsy.tables.metadata import Metadata, read_magnification, read_metadata
from biopsy.tables.names import fill, image_ids, read_names
from schemes import BREAKHIS, params, scheme

HEADER = "path_to_image,Benign or Malignant,Cancer Type,Magnification\n"
ROW = "a.png,Benign,Adenosis,40X\n"
FACTS = ["path", "binary", "multiclass", "magnification", "slide", "case"]


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read_text(content: str | bytes, labels: LabelScheme = BREAKHIS, **settings: Any) -> Metadata:
        path = tmp_path / "metadata.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_metadata(path, Ingest(**settings), labels)

    return read_text


def refusal(read: Any, content: str | bytes, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(content, **settings)
    assert "metadata.csv" in str(caught.value)
    return str(caught.value)


def facts(metadata: Metadata) -> list[list[str]]:
    return metadata.table[FACTS].to_numpy().tolist()


def test_the_course_csv_is_read_with_its_four_short_rows(real_data: Path) -> None:
    metadata = read_metadata(real_data / "image_data.csv", Ingest(), BREAKHIS)
    assert len(metadata.table) == metadata.counts["rows"] == 7909
    assert metadata.counts["short_rows"] == {"count": 4, "rows": [2873, 3095, 3230, 4538]}
    assert (metadata.table["binary"] == "").sum() == 3
    assert (metadata.table["multiclass"] == "").sum() == 4
    filled = fill(metadata.table, read_names(metadata.table["path"], BREAKHIS), BREAKHIS)
    assert not (filled.drop(columns="mpp") == "").any().any()
    assert filled["binary"].value_counts().to_dict() == {"malignant": 5429, "benign": 2480}


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ((HEADER + ROW).encode(), "UTF-8"),
        ((HEADER + ROW).encode("utf-8-sig"), "UTF-8 with BOM"),
        ((HEADER + ROW).encode("utf-16"), "UTF-16"),
        (b"\xfe\xff" + (HEADER + ROW).encode("utf-16-be"), "UTF-16"),
        ((HEADER + ROW).encode("utf-32"), "UTF-32"),
    ],
)
def test_encodings_with_a_byte_order_mark_are_read(read: Any, content: bytes, encoding: str) -> None:
    metadata = read(content)
    assert facts(metadata) == [["a.png", "benign", "A", "40", "", ""]]
    assert metadata.counts["encoding"] == encoding


def test_an_image_or_a_spreadsheet_named_as_csv_is_called_what_it_is(read: Any) -> None:
    assert "is an image, not a CSV" in refusal(read, b"\x89PNG\r\n\x1a\n")
    assert "is an Excel file or a zip archive, not a CSV" in refusal(read, b"PK\x03\x04abc")
    assert "a Git LFS pointer (run `git lfs pull`" in refusal(
        read, b"version https://git-lfs.github.com/spec/v1\noid 1"
    )


def test_bytes_that_are_not_utf8_are_named_with_their_line(read: Any) -> None:
    assert "line 3: byte 0xFF is not UTF-8. Save the file as UTF-8" in refusal(
        read, (HEADER + ROW).encode() + b"\xff,x"
    )
    assert "line 1: has a zero byte" in refusal(read, (HEADER + ROW).encode("utf-16-le"))
    assert "is not UTF-16" in refusal(read, (HEADER + ROW).encode("utf-16") + b"\x00\xd8x\x00")


@pytest.mark.parametrize(("mark", "name"), [(",", "comma"), (";", "semicolon"), ("\t", "tab")])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_are_detected(read: Any, mark: str, name: str, end: str) -> None:
    metadata = read((HEADER + ROW).replace(",", mark).replace("\n", end))
    assert facts(metadata) == [["a.png", "benign", "A", "40", "", ""]]
    assert metadata.counts["separator"] == name


def test_the_wanted_columns_settle_the_separator(read: Any) -> None:
    metadata = read(
        "path_to_image;Benign or Malignant;Cancer Type;Magnification;notes, free, and, long, text\na.png;B;A;40;"
    )
    assert facts(metadata) == [["a.png", "benign", "A", "40", "", ""]]


def test_header_variants_are_matched_without_case_spaces_and_underscores(read: Any) -> None:
    metadata = read("Path To Image, BENIGN_OR_MALIGNANT ,cancerType,MAGNIFICATION,notes\na.png,b,DC,40,x\n")
    assert facts(metadata) == [["a.png", "benign", "DC", "40", "", ""]]


def test_an_exact_header_wins_over_a_variant(read: Any) -> None:
    columns, unread = Columns(path="Path", magnification=None), scheme(x={"column": None, "classes": ["a", "b"]})
    assert read("path,Path\na,b\n", unread, columns=columns).table["path"].tolist() == ["b"]
    message = refusal(read, "PATH,path\na,b\n", labels=unread, columns=columns)
    assert "2 columns 'Path' (it has: PATH, path). Rename or delete all but one." in message


def test_an_absent_column_is_named_with_the_nearest_and_the_parameter(read: Any) -> None:
    message = refusal(read, "path_to_img,Benign or Malignant\na,b\n")
    assert "no column 'path_to_image'" in message
    assert "Did you mean 'path_to_img'?" in message
    assert "Did you mean" not in refusal(read, "file,patient\na.png,P1\n")
    assert message.endswith("Set ingest.columns.path to the column's name (dvc exp run -S ingest.columns.path=COLUMN).")
    message = refusal(read, "path_to_image,Benign or Malignant\na,b\n")
    assert "labels.tasks.multiclass.column to the column's name, or to null where there is none" in message
    own = scheme(label={"column": "label", "classes": "from_csv"})
    message = refusal(read, "path_to_image,diagnosis\na,b\n", labels=own)
    assert message.endswith("to the column's name (dvc exp run -S labels.tasks.label.column=COLUMN).")


def test_a_header_with_another_separator_is_no_single_column(read: Any) -> None:
    message = refusal(read, '"path_to_image,label"\n"a.png,b"\n')
    assert "row 1: path_to_image,label is one cell in quotes. Take the quotes around whole rows away" in message
    for mark in (":", " "):
        message = refusal(read, f"path_to_image{mark}label\na.png{mark}b\n")
        assert "row 1: 'path_to_image" in message
        assert "holds none of the known separators (comma, semicolon, tab, vertical bar). Save it with one." in message


def test_a_file_name_is_made_of_several_columns_and_a_column_that_is_not_there_is_named(read: Any) -> None:
    unread, content = scheme(x={"column": None, "classes": ["a", "b"]}), ",Patient,node,x\n0,4,1,33\n1,017,2,\n"

    def columns(path: str) -> Columns:
        return Columns(path=path, magnification=None, case="patient")

    template = "p/patient_{patient:03d}_{node}/x_{x}.png"
    table = read(content, unread, columns=columns(template)).table
    assert table["path"].tolist() == ["p/patient_004_1/x_33.png", "p/patient_017_2/x_.png"]
    assert table["case"].tolist() == ["4", "017"]
    message = refusal(read, content, labels=unread, columns=columns("{patient}_{nod}.png"))
    assert "no column 'nod' (it has: , Patient, node, x). Did you mean 'node'?" in message


def test_columns_of_other_names_come_from_params(read: Any) -> None:
    columns = Columns(path="file", magnification=None, mpp="um", slide="block", case="patient")
    labels = LabelScheme.of(
        params(labels={"tasks": {"finding": {"column": "diagnosis", "classes": ["b", "m"]}}}, tasks=["finding"]).labels
    )
    table = read(
        "file,diagnosis,um,block,patient\nx/1.jpg,M,.50,S1,P7\n".replace(",.50", ",0.50"), labels, columns=columns
    ).table
    assert table.iloc[0].to_dict() == {
        "row": 2, "path": "x/1.jpg", "finding": "m", "magnification": "", "mpp": "0.5", "slide": "S1", "case": "P7"
    }  # fmt: skip


@pytest.mark.parametrize("content", ["", "\n\n", " \n,,,\n", b"\xef\xbb\xbf"])
def test_an_empty_file_says_so(read: Any, content: str | bytes) -> None:
    assert "is empty" in refusal(read, content)


def test_a_header_alone_says_so(read: Any) -> None:
    assert "has a header but no rows" in refusal(read, HEADER)


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"PK\x03\x04", "Excel"), (b"\x1f\x8b\x08", "gzip"), (b'[{"a": 1}]', "JSON"), (b"<html>", "HTML")],
)
def test_a_file_of_another_kind_is_called_what_it_is(read: Any, start: bytes, kind: str) -> None:
    message = refusal(read, start + bytes(range(256)))
    assert kind in message
    assert "not a CSV. Name a CSV" in message


def test_a_header_that_is_missing_or_stands_twice_is_told(read: Any) -> None:
    assert "its first line is a row (a.png, Benign, Adenosis, 40X)" in refusal(read, ROW + ROW.replace("a", "b"))
    assert "row 3 repeats the header" in refusal(read, HEADER + ROW + HEADER + ROW.replace("a", "b"))


@pytest.mark.parametrize("title", ["Table S1: our data\n", "Table S1,,,\n\n", "exported,2020,,\n"])
@pytest.mark.parametrize("mark", [",", ";"])
def test_column_names_below_a_title_are_found_and_the_title_named(read: Any, title: str, mark: str) -> None:
    message = refusal(read, (title + HEADER + ROW).replace(",", mark))
    assert f"the column names are in row {1 + len(title.splitlines())}, and above them is {title[:8]}" in message


def test_row_names_of_r_are_called_so(read: Any) -> None:
    message = refusal(read, f"{HEADER}1,{ROW}2,{ROW.replace('a', 'b')}")
    assert "every row has one cell more than the header, as R writes row names. Name the first column" in message


def test_a_cell_that_is_kept_from_a_spreadsheet_and_a_cell_of_many_letters_are_read(read: Any) -> None:
    text = HEADER.strip() + ',notes\n"=""007.png""",="Benign",Adenosis,40X,' + "x" * 200_000 + "\n"
    assert facts(read(text)) == [["007.png", "benign", "A", "40", "", ""]]


def test_a_name_that_two_folders_have_is_no_repeated_row(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file,dx\n0.jpg,b\n0.jpg,m\n")
    labels = scheme(x={"column": "dx", "classes": ["b", "m"]})
    settings = Ingest(columns=Columns(path="file", magnification=None))
    words = r"0\.jpg is in several rows .*2 files fit: n/0\.jpg, t/0\.jpg\. Write the folder"
    with pytest.raises(DataError, match=words):
        read_metadata(tmp_path / "metadata.csv", settings, labels, ["t/0.jpg", "n/0.jpg"])


def test_words_of_a_map_that_no_row_has_are_counted(read: Any) -> None:
    columns, words = Columns(path="p", magnification=None), {"0": "benign", "1": "cancer", "7": "other"}
    labels = scheme(x={"column": "l", "classes": "from_csv"}).model_copy(update={"map": words})
    counts = read("p,l\na.png,0\nb.png,1.0\n", labels, columns=columns).counts
    assert counts["labels_map_unused"] == {"count": 1, "listed": ["7"]}


def test_a_positive_class_is_found_as_yaml_writes_it(read: Any) -> None:
    labels = scheme(x={"column": "l", "classes": "from_csv", "positive": ["True"]})
    found = read("p,l\na.png,TRUE\nb.png,FALSE\n", labels, columns=Columns(path="p", magnification=None)).scheme
    assert found["x"].positive == ("TRUE",)


def test_one_class_besides_a_word_for_nothing_says_how_to_make_it_a_class(read: Any) -> None:
    labels, columns = scheme(x={"column": "l", "classes": "from_csv"}), Columns(path="p", magnification=None)
    message = refusal(read, "p,l\na.png,None\nb.png,tumor\n", labels=labels, columns=columns)
    assert "holds one value, 'tumor'" in message
    assert "or make None a class (-S 'labels.map={None: ...}')" in message


def test_a_map_that_translates_no_label_is_an_error(read: Any) -> None:
    columns = Columns(path="p", magnification=None)
    labels = scheme(x={"column": "l", "classes": "from_csv"}).model_copy(update={"map": {"0": "benign", "1": "cancer"}})
    assert list(read("p,l\na.png,0.0\nb.png,1.0\n", labels, columns=columns).table["x"]) == ["benign", "cancer"]
    message = refusal(read, "p,l\na.png,no\nb.png,yes\n", labels=labels, columns=columns)
    assert "labels.map translates 0, 1, and no label is one of them; the labels are no, yes" in message


def test_yes_and_no_that_yaml_took_for_true_and_false_are_told_to_be_quoted(read: Any) -> None:
    columns, content = Columns(path="p", magnification=None), "p,l\na.png,no\nb.png,yes\n"
    mapped = scheme(x={"column": "l", "classes": "from_csv"}).model_copy(update={"map": {"True": "m", "False": "b"}})
    for labels in (mapped, scheme(x={"column": "l", "classes": [False, True]})):
        assert "YAML reads yes, no, on and off as True and False: put them in quotes." in refusal(
            read, content, labels=labels, columns=columns
        )


def test_a_missing_csv_and_a_folder_of_its_name_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metadata.csv is missing.*data.source"):
        read_metadata(tmp_path / "metadata.csv", Ingest(), BREAKHIS)
    (tmp_path / "metadata.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        read_metadata(tmp_path / "metadata.csv", Ingest(), BREAKHIS)


def test_short_rows_are_filled_and_blank_lines_skipped_and_both_counted(read: Any) -> None:
    metadata = read("\n" + HEADER + ROW + "\n,,,\nb.png,\nc.png,Malignant,\nd.png\n")
    assert facts(metadata)[1:] == [
        [p, c, "", "", "", ""] for p, c in (("b.png", ""), ("c.png", "malignant"), ("d.png", ""))
    ]
    assert metadata.counts["short_rows"] == {"count": 3, "rows": [6, 7, 8]}
    assert metadata.counts["blank_lines"] == 3
    assert list(metadata.table["row"]) == [3, 6, 7, 8]


def test_long_rows_are_an_error_unless_the_surplus_is_empty(read: Any) -> None:
    assert len(read(HEADER + "a.png,Benign,Adenosis,40X,,\n").table) == 1
    message = refusal(read, HEADER + ROW + "b.png,Benign,Adenosis,left, right,40X\n")
    assert "1 row with more cells than the header's 4 (row 3: 6 cells)" in message
    assert "double quotes" in message


def test_quoted_line_breaks_keep_rows_and_their_numbers(read: Any) -> None:
    metadata = read(HEADER.strip() + ',notes\na.png,Benign,Adenosis,40X,"two\nlines"\nb.png,M,DC,40X,\n')
    assert list(metadata.table["row"]) == [2, 4]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [";", "\t", ","])
def test_the_line_in_which_excel_names_the_separator_is_understood(read: Any, mark: str, end: str) -> None:
    metadata = read(f"sep={mark}\n{HEADER}{ROW}".replace(",", mark).replace("\n", end).replace("sep=\t", "sep=\t"))
    assert facts(metadata) == [["a.png", "benign", "A", "40", "", ""]]
    assert list(metadata.table["row"]) == [3]
    assert "row 1: ':' is not a known separator" in refusal(read, "sep=:\n" + HEADER + ROW)


def test_lines_of_comment_are_skipped_and_counted_and_names_that_begin_alike_are_not(read: Any) -> None:
    lines = "#1.png,Benign,Adenosis,40X\n#b.png,,,\n#end,,,\n# c.png, and so on, and, so, on\n"
    text = f"# exported 2020, by hand\n#\n{HEADER}{lines}"
    metadata = read(text)
    assert [row[0] for row in facts(metadata)] == ["#1.png", "#b.png"]
    assert (list(metadata.table["row"]), metadata.counts["comment_lines"]) == ([4, 5], 4)
    assert len(read("# " + HEADER + ROW).table) == 1


@pytest.mark.parametrize("last", ["Total,1,1,", "TOTALS", "Grand total: 8", "Sum,,,", "Gesamt;", "mean"])
def test_a_row_of_totals_at_the_end_is_named(read: Any, last: str) -> None:
    assert "looks like a row of totals, not an image. Delete the row." in refusal(read, f"{HEADER}{ROW}{last}\n")
    assert len(read(HEADER + "total.png,B,A,40X\nsum_1.png,B,A,40X\n").table) == 2


def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metadata.csv")
    with pytest.raises(DataError, match=r"metadata\.csv is a pipe or a device, not a file\. Save the table"):
        read_metadata(tmp_path / "metadata.csv", Ingest(), BREAKHIS)


def test_a_quote_left_open_names_its_row(read: Any) -> None:
    assert "row 3: unexpected end of data. Is a double quote left open" in refusal(
        read, HEADER + ROW + '"b.png,M\nc.png\n'
    )


@pytest.mark.parametrize("before", ["", "a;"])
def test_a_stray_quote_before_a_long_file_is_a_sentence(read: Any, before: str) -> None:
    message = refusal(read, before + '"' + HEADER + ROW * 6000)  # more than the csv module takes into one cell
    assert "Is a double quote left open" in message or "no column 'path_to_image'" in message


def test_words_for_nothing_are_empty(read: Any) -> None:
    assert facts(read(HEADER + "a.png,'--,Not Reported,NULL\n")) == [["a.png", "", "", "", "", ""]]


@pytest.mark.parametrize("column", ["slide", "case"])
def test_ids_in_several_spellings_are_one_spelled_as_first_and_counted(read: Any, column: str) -> None:
    given = Columns(path="p", magnification=None, **{column: "id"})
    labels = scheme(x={"column": None, "classes": ["a", "b"]})
    metadata = read("p,id\na.png,P 01\nb.png,p01\nc.png,P02\nd.png, P01\n", labels, columns=given)
    assert list(metadata.table[column]) == ["P 01", "P 01", "P02", "P 01"]
    assert metadata.counts["respelled"][column] == {"count": 2, "listed": ["p01 is P 01", "P01 is P 01"]}


def test_a_path_in_two_rows_with_two_spellings_of_its_case_is_no_contradiction(read: Any) -> None:
    given = Columns(path="p", magnification=None, case="id")
    labels = scheme(x={"column": None, "classes": ["a", "b"]})
    assert list(read("p,id\na.png,P01\na.png,p01\n", labels, columns=given).table["case"]) == ["P01"]


def test_a_mark_of_a_missing_value_that_is_a_label_stays_a_label(read: Any) -> None:
    columns = Columns(path="p", magnification=None)
    for classes, cells in ((["none", "tumour"], ["none", "tumour"]), ("from_csv", ["+", "-"])):
        labels = scheme(x={"column": "l", "classes": classes})
        rows = "".join(f"{i}.png,{cell}\n" for i, cell in enumerate([*cells, "n/a"]))
        assert list(read(f"p,l\n{rows}", labels, columns=columns).table["x"]) == [*cells, ""]


def test_unknown_labels_are_counted_with_row_value_and_the_nearest(read: Any) -> None:
    message = refusal(read, HEADER + ROW + "b.png,Benin,Adenosis,40X\nc.png,what,DC,40X\n")
    assert (
        "2 rows with a label that is not a class of task 'binary' (row 3: 'Benin', row 4: 'what'). Its classes are "
        "benign, malignant. Did you mean 'benign'?" in message
    )
    assert "Add the word to labels.tasks.binary.classes.<class>.synonyms" in message
    assert "-S 'labels.map={Benin: benign}'" in message
    message = refusal(read, HEADER + "b.png,Malignant,Ductal Carcinom,40X\n")
    assert "not a class of task 'multiclass' (row 2: 'Ductal Carcinom')" in message
    assert "Did you mean 'ductal carcinoma'?" in message
    assert "(row 2: 'forty'). Write it as 40X or 40" in refusal(read, HEADER + "b.png,M,DC,forty\n")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/etc/passwd", "absolute path (row 2: '/etc/passwd')"),
        ("C:/images/a.png", "absolute path"),
        ("../a.png", "with '..' in the path"),
        ("a/../../b.png", "with '..' in the path"),
        ("..", "with '..' in the path"),
        ("a\\b.png", "backslash"),
        ("", "without a path"),
        ("./", "without a path"),
        ('"a\nb.png"', "control character"),
    ],
)
def test_paths_that_lead_nowhere_or_outside_are_errors(read: Any, path: str, words: str) -> None:
    assert words in refusal(read, f"{HEADER}{path},Benign,Adenosis,40X\n")


def test_paths_are_normalised_and_may_hold_dots_spaces_and_any_letter(read: Any) -> None:
    rows = "./a//b.png,B,A,40\nx..y/..z.png,B,A,40\nmy folder/ünï 图.png,B,A,40\n"
    assert [row[0] for row in facts(read(HEADER + rows))] == ["a/b.png", "x..y/..z.png", "my folder/ünï 图.png"]


def test_a_repeated_path_counts_once_and_its_gaps_are_filled_from_the_repetition(read: Any) -> None:
    metadata = read(HEADER + "a.png,Benign,,40X\nb.png,M,DC,40X\n./a.png,,Adenosis,\n")
    assert facts(metadata)[0] == ["a.png", "benign", "A", "40", "", ""]
    assert list(metadata.table["row"]) == [2, 3]
    assert metadata.counts["duplicate_rows"] == {"count": 1, "rows": [4]}


def test_a_repeated_path_with_another_label_is_an_error_with_both_rows(read: Any) -> None:
    message = refusal(read, HEADER + ROW + "a.png,Malignant,,40X\n")
    assert "a.png is in several rows with more than one binary (row 2: 'benign', row 3: 'malignant')" in message


def test_a_repeated_path_is_an_error_where_params_say_so(read: Any) -> None:
    message = refusal(read, HEADER + ROW + ROW, duplicate_rows="error")
    assert "1 row with the path of an earlier row (row 3: a.png)" in message
    assert "ingest.duplicate_rows" in message


FREE = scheme(x={"column": None, "classes": ["a", "b"]})
NAMED = "SOB_M_DC-14-10926-100-003"


def test_image_ids_are_stems_that_follow_the_grammar_and_else_paths() -> None:
    paths = pd.Series([f"BreaKHis_v1/x/{NAMED}.png", "x/b.tif", "x/y/b.v2.png", "b.png", "B.png"])
    assert image_ids(paths, BREAKHIS) == [NAMED, "x__b", "x__y__b.v2", "b", "B"]
    assert image_ids(paths, FREE)[0] == f"BreaKHis_v1__x__{NAMED}"


@pytest.mark.parametrize("labels", [BREAKHIS, FREE])
def test_a_file_that_is_added_renames_no_other(labels: LabelScheme) -> None:
    paths = ["a.png", "x/b.png", f"x/{NAMED}.png"]
    added = ["y/a.png", "A.png", "b.png", "x/b/b.png", "x/B.tif", "y/SOB_M_DC-14-10926-100-004.png"]
    assert image_ids(pd.Series([*added, *paths]), labels)[-3:] == image_ids(pd.Series(paths), labels)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.png", "a.jpg"),
        ("x/a.png", "x__a.png"),
        (f"x/{NAMED}.png", f"y/{NAMED}.png"),
        (f"{NAMED}.png", f"{NAMED}.tif"),
    ],
)
def test_two_files_with_one_image_id_are_both_named(one: str, other: str) -> None:
    with pytest.raises(DataError) as caught:
        image_ids(pd.Series(["z.png", one, other]), BREAKHIS)
    assert f"{one} and {other} get the same image id" in str(caught.value)


def test_pairs_of_files_with_one_image_id_are_told_together() -> None:
    paths = [f"{i}.{ending}" for i in range(5) for ending in ("jpg", "png")]
    with pytest.raises(
        DataError, match=r"0\.jpg and 0\.png, 1\.jpg and 1\.png, 2\.jpg and 2\.png and 2 more get the same"
    ):
        image_ids(pd.Series(paths), BREAKHIS)


def test_an_image_id_is_no_longer_than_a_file_name_may_be() -> None:
    """Bytes, not letters: `é` has two."""
    for letter, fits in (("x", 120), ("é", 60)):
        paths = pd.Series([f"{letter * fits}/{'y' * 129}/a.png", f"{letter * fits}/{'y' * 128}/z/a.png"])
        ids = image_ids(paths, FREE)
        assert [len(name) for name in ids] == [14, 14]
        assert ids[0] != ids[1]
        assert len(image_ids(pd.Series([f"{letter * fits}/{'y' * 126}/a.png"]), FREE)[0].encode()) == 251
    with pytest.raises(DataError, match=r"1 images have names of more than 238 bytes.*Rename"):
        image_ids(pd.Series(["y" * 251 + ".png", f"{'x' * 12}/{'y' * 240}.png"]), FREE)


def test_a_magnification_is_any_number_in_one_spelling() -> None:
    written = ("40X", "100 x", "200", "400.0", "2.5x", "")
    assert [read_magnification(text) for text in written] == ["40", "100", "200", "400", "2.5", ""]
    assert [read_magnification(text) for text in ("high", "0", "-40", "1e3", "\u0664\u0660", "40XX")] == [None] * 6


@pytest.mark.parametrize("value", ["0", "500", "nine", "1e-1", "\u0661", "0.25um"])
def test_micrometres_per_pixel_are_a_sensible_number(read: Any, value: str) -> None:
    labels, columns = scheme(x={"column": None, "classes": ["a", "b"]}), Columns(path="p", magnification=None, mpp="m")
    assert read("p,m\na.png,0.250\n", labels, columns=columns).table["mpp"].tolist() == ["0.25"]
    assert "1 row without a size in micrometres per pixel" in refusal(
        read, f"p,m\na.png,{value}\n", labels=labels, columns=columns
    )
