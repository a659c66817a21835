"""The tables of `biopsy predict`: Parquet beside CSV."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from biopsy.core.errors import MachineError
from biopsy.serving.predict import tables
from biopsy.serving.predict.tables import check_out, write_table

ROW = {
    "image": os.fsdecode(b"a\xe9.png"), "case": "", "predicted": "b", "p_a": 0.25, "error": "", "in_training": False,
    "abstain": None,
}  # fmt: skip
BAD = {**ROW, "image": "b", "predicted": "", "p_a": float("nan"), "error": "is no image", "in_training": None}


def test_a_parquet_file_has_the_rows_of_the_other_tables_in_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install -e '.[parquet]'")
    monkeypatch.setattr(tables, "GROUP", 2)
    write_table(([dict(row)] for row in (ROW, BAD, ROW)), tmp_path / "x.parquet")
    file = parquet.ParquetFile(tmp_path / "x.parquet")
    assert file.num_row_groups == 2
    told = {"image": "a\\udce9.png", "case": None, "predicted": "b", "p_a": 0.25, "error": None, "in_training": False}
    bad = {"image": "b", "case": None, "predicted": None, "p_a": None, "error": "is no image", "in_training": None}
    assert file.read().to_pylist() == [row | {"abstain": None} for row in (told, bad, told)]
    assert [str(kind) for kind in file.schema_arrow.types] == [*["string"] * 3, "double", "string", "bool", "bool"]


def test_the_counts_of_a_case_are_whole_numbers(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install -e '.[parquet]'")
    counts = {"images": 3, "without_prediction": 0, "in_training": 2}
    write_table([[{"case": "1", "p_a": 0.5, **counts}], [{"case": "2", "p_a": 0.5, **counts, "in_training": None}]],
                tmp_path / "x.parquet")  # fmt: skip
    table = parquet.read_table(tmp_path / "x.parquet")
    assert [str(kind) for kind in table.schema.types] == ["string", "double", *["int64"] * 3]
    assert table["in_training"].to_pylist() == [2, None]


def test_without_its_package_parquet_is_a_sentence_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MachineError, match=r"has no package pyarrow.*parquet\]"):
        check_out(Path("x.parquet"))


@pytest.mark.parametrize(
    ("several", "columns"),
    [
        ([["i", "p_a", "e"], ["i", "p_b", "p_c", "e", "u"]], ["i", "p_a", "p_b", "p_c", "e", "u"]),
        ([["i", "e", "u"], ["i", "p_a", "e"], ["i", "p_a", "p_b", "e"]], ["i", "p_a", "p_b", "e", "u"]),
    ],
)
def test_the_columns_of_models_stand_where_each_has_them(
    tmp_path: Path, several: list[list[str]], columns: list[str]
) -> None:
    rows: list[dict[str, Any]] = [dict.fromkeys(names, 1) for names in several]
    write_table([rows, rows], tmp_path / "x.csv")
    head, *lines = (tmp_path / "x.csv").read_text().splitlines()
    assert head == ",".join(columns)
    assert lines == [",".join("1" if name in row else "" for name in columns) for row in rows] * 2
