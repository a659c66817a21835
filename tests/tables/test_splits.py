"""What each protocol promises, as properties."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from label_tables import MANY, breakhis, invented

from biopsy.core.errors import DataError
from biopsy.core.protocol import PUBLIC
from biopsy.core.sections.data import Split
from biopsy.sources.originals import known
from biopsy.tables.labels.breakhis import case_of, facts
from biopsy.tables.split.fold_table import is_official, match_fold_table, read_fold_table
from biopsy.tables.split.published import PUBLISHED
from biopsy.tables.split.search import assign_groups, penalty
from biopsy.tables.split.splits import make_split
from biopsy.tables.split.summary import check_split, check_tasks, summarise
from schemes import BREAKHIS, TASKS

SHARES = Split()
PROTOCOLS = ("image", "slide", "case", "image-2of5", "slide-1of3", "case-3of4")


def joined(table: pd.DataFrame, protocol: str, seed: int = 0, shares: Split = SHARES) -> pd.DataFrame:
    return table.merge(make_split(table, TASKS, protocol, shares, seed), on="image_id", validate="one_to_one")


def shares_of(parts: pd.Series) -> dict[str, float]:
    return parts.value_counts(normalize=True).to_dict()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("seed", [0, 1, 42])
def test_every_image_is_in_exactly_one_part_and_no_part_is_empty(protocol: str, seed: int) -> None:
    split = make_split(MANY, TASKS, protocol, SHARES, seed)
    assert list(split.columns) == ["image_id", "part", *(["repeat_1"] if "of" in protocol else [])]
    assert list(split["image_id"]) == sorted(MANY["image_id"])
    assert set(split["part"]) == {"train", "val", "test"}


@pytest.mark.parametrize("protocol", [p for p in PROTOCOLS if not p.startswith("image")])
@pytest.mark.parametrize("seed", [0, 1, 42])
def test_groups_are_disjoint(protocol: str, seed: int) -> None:
    table = joined(MANY, protocol, seed)
    assert table.groupby(protocol.partition("-")[0])["part"].nunique().max() == 1


@pytest.mark.parametrize("seed", [0, 7])
def test_image_shares_of_every_class_are_within_one_image(seed: int) -> None:
    for _, rows in joined(MANY, "image", seed).groupby("multiclass"):
        counts = rows["part"].value_counts()
        assert counts["test"] == pytest.approx(0.15 * len(rows), abs=1.01)
        assert counts["val"] == pytest.approx(0.15 * len(rows), abs=1.01)


@pytest.mark.parametrize("protocol", ["slide", "case"])
def test_group_shares_are_within_tolerance(protocol: str) -> None:
    table = joined(MANY, protocol)
    assert shares_of(table["part"]) == pytest.approx({"train": 0.7, "val": 0.15, "test": 0.15}, abs=0.03)
    for _, rows in table.groupby("multiclass"):
        assert shares_of(rows["part"]) == pytest.approx(
            {"train": 0.7, "val": 0.15, "test": 0.15}, abs=0.21
        )  # LC: a case is a quarter


def test_the_wanted_shares_are_obeyed() -> None:
    half = Split(train=0.5, val=0.2, test=0.3)
    for protocol, tolerance in (("image", 0.01), ("case", 0.03)):
        shares = shares_of(joined(MANY, protocol, shares=half)["part"])
        assert shares == pytest.approx({"train": 0.5, "val": 0.2, "test": 0.3}, abs=tolerance)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_same_seed_gives_the_same_split_and_another_seed_another(protocol: str) -> None:
    first = make_split(MANY, TASKS, protocol, SHARES, 3)
    pd.testing.assert_frame_equal(first, make_split(MANY, TASKS, protocol, SHARES, 3))
    assert any(not first.equals(make_split(MANY, TASKS, protocol, SHARES, seed)) for seed in (4, 5, 6))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_order_of_the_rows_does_not_matter(protocol: str) -> None:
    shuffled = MANY.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(
        make_split(MANY, TASKS, protocol, SHARES, 0), make_split(shuffled, TASKS, protocol, SHARES, 0)
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_names_of_classes_and_groups_do_not_matter(protocol: str) -> None:
    others = {"A": "PC", "F": "DC", "DC": "TA", "LC": "F"}
    renamed = MANY.assign(
        multiclass=MANY["multiclass"].map(others),
        slide="z" + MANY["slide"].str[::-1],
        case=MANY["case"].str[::-1] + "x",
        **{"binary": MANY["binary"].map({"benign": "malignant", "malignant": "benign"})},
    )
    pd.testing.assert_frame_equal(
        make_split(MANY, TASKS, protocol, SHARES, 0), make_split(renamed, TASKS, protocol, SHARES, 0)
    )


@pytest.mark.parametrize("base", ["image", "slide", "case"])
def test_the_k_test_folds_cover_every_image_once_and_val_is_the_next_fold(base: str) -> None:
    folds = [make_split(MANY, TASKS, f"{base}-{i}of4", SHARES, 0).set_index("image_id")["part"] for i in (1, 2, 3, 4)]
    tested = pd.concat([fold[fold == "test"] for fold in folds])
    assert sorted(tested.index) == sorted(MANY["image_id"])
    for fold, following in zip(folds, folds[1:] + folds[:1], strict=True):
        assert set(fold[fold == "val"].index) == set(following[following == "test"].index)


def test_stratified_by_the_coarser_task_where_the_finer_label_is_unknown() -> None:
    unknown = MANY.assign(multiclass="")
    for protocol in ("image", "case"):
        for _, rows in joined(unknown, protocol).groupby("binary"):
            assert shares_of(rows["part"]) == pytest.approx({"train": 0.7, "val": 0.15, "test": 0.15}, abs=0.05)


@pytest.mark.parametrize(("size", "parts"), [(1, {"train"}), (2, {"train", "test"}), (3, {"train", "val", "test"})])
def test_a_class_of_few_images_is_spread_as_far_as_it_goes(size: int, parts: set[str]) -> None:
    table = joined(invented({"A": [size], "DC": [60]}), "image")
    assert set(table.loc[table["multiclass"] == "A", "part"]) == parts


@pytest.mark.parametrize("size", range(3, 16))
def test_no_part_lacks_a_small_class_at_image_level(size: int) -> None:
    for shares in (SHARES, Split(train=0.1, val=0.45, test=0.45), Split(train=0.9, val=0.05, test=0.05)):
        table = joined(invented({"A": [size], "F": [size + 1], "DC": [700]}), "image", shares=shares)
        assert table.groupby("multiclass")["part"].nunique().min() == 3


@pytest.mark.parametrize("seed", range(5))
def test_two_groups_go_to_train_and_test_and_one_to_train(seed: int) -> None:
    table = joined(invented({"A": [10, 40], "TA": [12], "DC": [20, 10, 30, 5, 9]}), "case", seed)
    assert set(table.loc[table["multiclass"] == "A", "part"]) == {"train", "test"}
    assert set(table.loc[table["multiclass"] == "TA", "part"]) == {"train"}
    assert set(table.loc[table["multiclass"] == "DC", "part"]) == {"train", "val", "test"}


def test_no_part_stays_empty_where_every_class_has_two_groups() -> None:
    table = joined(invented({"A": [5, 5], "DC": [5, 5]}), "case")
    assert set(table["part"]) == {"train", "val", "test"}
    assert set(table.loc[table["part"] == "train", "multiclass"]) == {"A", "DC"}


@pytest.mark.parametrize("seed", range(6))
def test_the_search_finds_the_best_of_all_assignments(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 20, (8, 3)).astype(float) + np.eye(8, 3)
    shares = np.array([0.7, 0.15, 0.15])

    def sizes(assigned: np.ndarray) -> np.ndarray:
        return np.stack([counts[assigned == part].sum(axis=0) for part in range(3)])

    every = np.stack([sizes(np.array(one)) for one in itertools.product(range(3), repeat=8)])
    found = penalty(sizes(assign_groups(counts, shares, seed))[None], shares)[0]
    assert found == pytest.approx(penalty(every, shares).min(), abs=0.02)


def test_many_groups_are_assigned_by_sampled_swaps() -> None:
    counts = np.random.default_rng(0).integers(1, 30, (400, 8)).astype(float)
    assigned = assign_groups(counts, np.array([0.7, 0.15, 0.15]), 0)
    sizes = np.stack([counts[assigned == part].sum(axis=0) for part in range(3)])
    np.testing.assert_allclose(sizes / sizes.sum(axis=0), [[0.7] * 8, [0.15] * 8, [0.15] * 8], atol=0.02)


def test_equal_pixels_stay_on_one_side_of_a_group_protocol_and_are_counted_at_image_level() -> None:
    table = invented({"A": [6] * 8, "DC": [6] * 8})
    table.loc[table["slide"] == "DC0", "pixels_sha256"] = table.loc[table["slide"] == "A0", "pixels_sha256"].to_numpy()
    for protocol in ("slide", "case", "case-1of3"):
        for seed in range(4):
            parts = joined(table, protocol, seed)
            assert len(set(parts.loc[parts["slide"].isin(("A0", "DC0")), "part"])) == 1
    total = 0
    for seed in range(6):
        image = joined(table, "image", seed)
        trained = set(image.loc[image["part"] == "train", "pixels_sha256"])
        seen = sum(pixels in trained for pixels in image.loc[image["part"] == "test", "pixels_sha256"])
        split = image[["image_id", "part"]]
        check_split(table, split, "image")
        found = summarise(table, split, "image", BREAKHIS)
        assert found["test_images_seen"]["pixels"] == seen
        assert ("with the pixels of a training image" in found["says"]) == (seen > 0)
        total += seen
    assert total > 0


def test_slides_of_one_case_stay_together_under_case_but_not_under_slide() -> None:
    table = invented({"A": [6] * 6, "DC": [6] * 9})
    table.loc[table["slide"].isin(("A1", "A2", "A3")), "case"] = "shared"
    assert joined(table, "case").groupby("case")["part"].nunique().max() == 1
    assert any(joined(table, "slide", seed).groupby("case")["part"].nunique().max() > 1 for seed in range(5))


@pytest.mark.parametrize(
    ("table", "protocol", "words"),
    [
        (invented({"A": [1], "DC": [1]}), "image", ["2 image(s)", "three parts"]),
        (invented({"DC": [50]}), "case", ["at least 3 cases", "has 1", "protocols"]),
        (invented({"DC": [9, 9]}), "slide", ["at least 3 slides", "has 2"]),
        (invented({"A": [9], "DC": [9, 9]}), "case", ["no image for val", "every class", "2 of the 3", "in case A"]),
        (invented({"A": [9], "DC": [9], "F": [9]}), "slide", ["for val, test", "3 of the 3", "and 1 more"]),
        (invented({"DC": [9, 9, 9]}), "case-1of5", ["at least 5 cases", "has 3"]),
        (invented({"DC": [9, 9, 9]}), "case-cv5x3", ["'case-cv5x3'", "at least 5 cases", "has 3"]),
        (invented({"A": [1, 1, 1]}), "image-1of5", ["at least 5 images", "has 3"]),
        (invented({"A": [9, 9], "DC": [9, 9]}).assign(case=""), "case", ["36 of 36", "no case", "ingest.columns.case"]),
        (MANY, "fold1", ["split.fold_table"]),
    ],
)  # fmt: skip
def test_what_a_protocol_cannot_do_is_an_error_with_the_way_out(
    table: pd.DataFrame, protocol: str, words: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        make_split(table, TASKS, protocol, SHARES, 0)
    for word in words:
        assert word in str(caught.value)


def test_one_class_and_unknown_labels_are_refused_for_the_task_that_needs_two() -> None:
    benign = MANY[MANY["binary"] == "benign"]
    check_tasks(benign, ["multiclass"], BREAKHIS)
    with pytest.raises(DataError, match=r"all 112 images are 'benign': task 'binary' needs two classes.*`tasks`"):
        check_tasks(benign, ["binary"], BREAKHIS)
    unknown = MANY.assign(multiclass=MANY["multiclass"].replace("A", ""))
    check_tasks(unknown, ["binary"], BREAKHIS)
    with pytest.raises(
        DataError, match=r"50 of 231 images have no label for task 'multiclass'.*labels\.tasks\.multiclass\.column"
    ):
        check_tasks(unknown, ["binary", "multiclass"], BREAKHIS)
    edited = MANY.assign(multiclass=MANY["multiclass"].replace("A", "ZZ"))
    with pytest.raises(DataError, match=r"has ZZ as multiclass, which models/labels\.json does not know"):
        check_tasks(edited, ["binary"], BREAKHIS)
    with pytest.raises(DataError, match="empty"):
        check_tasks(MANY.iloc[:0], ["binary"], BREAKHIS)


# The official fold 1


@pytest.fixture
def fold_table(tmp_path: Path) -> Path:
    rows = [
        f"{row.path},100,1,{'test' if row.slide in ('A0', 'F1', 'DC0', 'LC3') else 'train'}"
        for row in MANY.itertuples()
    ]
    rows += [f"{row.path},100,2,test" for row in MANY.itertuples()]  # another fold
    path = tmp_path / "fold.csv"
    path.write_text("filename,maginfication,number,split\n" + "\n".join(rows) + "\n")
    return path


def test_fold1_takes_test_from_the_table_and_draws_val_from_its_train_by_case(fold_table: Path) -> None:
    split = make_split(MANY, TASKS, "fold1", SHARES, 0, read_fold_table(fold_table))
    table = MANY.merge(split, on="image_id")
    assert set(table.loc[table["part"] == "test", "slide"]) == {"A0", "F1", "DC0", "LC3"}
    assert shares_of(table["part"])["val"] == pytest.approx(0.15, abs=0.03)
    assert table.groupby("case")["part"].nunique().max() == 1


def test_file_names_of_the_fold_table_may_be_spelled_in_another_way(fold_table: Path) -> None:
    assert not is_official(read_fold_table(fold_table))
    expected = make_split(MANY, TASKS, "fold1", SHARES, 0, read_fold_table(fold_table))
    fold_table.write_text(fold_table.read_text().replace(".png", ".PNG ").replace("\nDC", "\n dc"))
    pd.testing.assert_frame_equal(make_split(MANY, TASKS, "fold1", SHARES, 0, read_fold_table(fold_table)), expected)


def test_copies_of_the_fold_table_with_other_columns_words_and_names_are_matched_and_counted(tmp_path: Path) -> None:
    # Kaggle's Folds.csv; names without ending, with a folder, in another case
    paths = pd.Series(["x/A-1.png", "x/A-2.png", "y/B-1.png", "y/B-2.png"])
    table = tmp_path / "Folds.csv"
    table.write_text(
        "fold,mag,grp,filename\n1.0,40,Train,BreaKHis_v1/x/40X/A-1\n1.0,40,TEST,x/a-2\n1,40,valid,B-1.png\n"
        "1,40,train,other\\b-2.PNG\n2,40,test,A-1\n"
    )
    matched, counted = match_fold_table(read_fold_table(table), paths)
    assert matched.set_index("filename")["split"].to_dict() == {
        "x/A-1.png": "train", "x/A-2.png": "test", "B-1.png": "val", "y/B-2.png": "train",
    }  # fmt: skip
    assert counted["count"] == 3
    assert counted["listed"][0] == "row 2: BreaKHis_v1/x/40X/A-1 is x/A-1.png"
    labels = MANY.head(4).assign(path=paths.to_numpy(), image_id=paths.to_numpy())
    parts = make_split(labels, TASKS, "fold1", SHARES, 0, matched).set_index("image_id")["part"]
    assert parts.to_dict() == {"x/A-1.png": "train", "x/A-2.png": "test", "y/B-1.png": "val", "y/B-2.png": "train"}


def test_a_fold_table_without_a_column_of_folds_is_one_fold(tmp_path: Path) -> None:
    (tmp_path / "fold.csv").write_text("filename,split\na.png,train\nb.png,Test\n")
    assert read_fold_table(tmp_path / "fold.csv")["split"].tolist() == ["train", "test"]


def test_a_name_of_the_fold_table_that_fits_two_images_is_not_guessed(tmp_path: Path) -> None:
    table = tmp_path / "fold.csv"
    table.write_text("filename,number,split\n1,1,train\n2,1,test\n")
    matched, counted = match_fold_table(read_fold_table(table), pd.Series(["a/1.png", "b/1.png", "a/2.png"]))
    assert matched["filename"].tolist() == ["1", "a/2.png"]
    assert counted["count"] == 1


def test_folders_of_the_fold_table_tell_images_of_one_name_apart(tmp_path: Path) -> None:
    table = tmp_path / "fold.csv"
    table.write_text("filename,number,split\na/1.png,1,train\nB/1.png,1,test\n")
    paths = pd.Series(["a/1.png", "b/1.png"])
    matched, _ = match_fold_table(read_fold_table(table), paths)
    labels = MANY.drop_duplicates("case").head(3).assign(image_id=["1", "2", "3"], path=[*paths, "a/1.png"])
    parts = make_split(labels, TASKS, "fold1", SHARES, 0, matched).set_index("image_id")["part"]
    assert parts["2"] == "test"
    assert parts["1"] != "test"


def test_images_that_the_fold_table_lacks_are_counted_in_the_error(fold_table: Path) -> None:
    official = read_fold_table(fold_table)
    with pytest.raises(DataError, match=r"2 of 231 images are not in split.fold_table \(.*, .*\)"):
        make_split(MANY, TASKS, "fold1", SHARES, 0, official.iloc[2:])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["cannot be read", "split.fold_table"]),
        ("", ["cannot be read"]),
        ("filename,number\na.png,1\n", ["no column split"]),
        ("filename,number,split\na.png,1,holdout\n", ["row 2 puts a.png", "'holdout'", "train, val or test"]),
        (
            "filename,fold,grp\na.png,1,TRAIN\nb.png,1,train\n",
            ["fold.csv: the column 'grp' puts none of 2 files", "into test"],
        ),
        ("filename,number,fold,split\na.png,7,1,test\nb.png,1,1,test\n", ["puts none of 2 files", "into train"]),
        ("filename,fold,split\na.png,0,train\n", ["fold.csv has no fold 1 in its column 'fold' (0)"]),
        ("filename,maginfication,number,split\na.png,100,1,train\na.png,100,1,test\n", ["a.png", "once"]),
    ],
)
def test_a_bad_fold_table_is_an_error(tmp_path: Path, content: str | None, words: list[str]) -> None:
    path = tmp_path / "fold.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_fold_table(path)
    for word in words:
        assert word in str(caught.value)


# The test slides of published comparisons


def shared_cases(names: set[str], slides: frozenset[str]) -> int:
    """Count the test slides whose case has another slide among `names`, which are slides as file names begin."""
    case = {name: case_of(name.split("-")[2]) for name in names}
    return sum(any(case[slide] == case[other] for other in names - slides) for slide in slides)


def test_the_published_test_slides_are_breakhis_slides_and_share_as_many_cases_as_is_known() -> None:
    names = {name.rsplit("-", 2)[0] for name in known()}
    assert len(names) == 82
    audit, eva = (PUBLISHED[name].slides for name in ("audit", "eva"))
    assert (len(audit), len(audit & names), sum(name.rsplit("-", 2)[0] in audit for name in known())) == (16, 16, 1653)
    assert PUBLISHED["audit"].images == 1653
    assert PUBLISHED["eva"].images == sum(name.rsplit("-", 2)[0] in eva for name in known())
    assert shared_cases(names, audit) == 6
    four = {name for name in names if name.split("-")[0].split("_")[2] in ("TA", "MC", "F", "DC")}
    assert (len(eva), len(eva & four), shared_cases(four, eva)) == (14, 14, 4)
    assert shared_cases(names, eva) == 6  # eva leaves out PT 21998AB, which our training has
    assert sum("-40-" in name for name in known() if name.rsplit("-", 2)[0] in eva) == 339
    assert {*PUBLISHED} == {*PUBLIC} - {"fold1"}


def test_a_published_protocol_tests_its_slides_that_are_here_and_draws_val_by_case() -> None:
    paths = [f"x/{name}.png" for name in known() if "-14-21998CD-" not in name]
    table = pd.DataFrame({"path": paths, **pd.DataFrame([facts(path) for path in paths])})
    table = table.assign(image_id=table["path"], pixels_sha256=table["path"])
    split = table.merge(make_split(table, TASKS, "eva", SHARES, 0), on="image_id")
    tested = set(split.loc[split["part"] == "test", "path"].str[2:].str.rsplit("-", n=2).str[0])
    assert tested == PUBLISHED["eva"].slides - {"SOB_B_F-14-21998CD"}
    assert split[split["part"] != "test"].groupby("case")["part"].nunique().max() == 1
    assert shares_of(split["part"])["val"] == pytest.approx(0.15, abs=0.03)
    found = summarise(table, split[["image_id", "part"]], "eva", BREAKHIS)
    assert found["test_images_seen"]["cases"] > 0
    assert "none in test" in found["not_estimable"]["PC"]


def test_a_published_protocol_on_other_images_says_that_they_are_none_of_its_test_slides() -> None:
    with pytest.raises(
        DataError, match=r"'audit' leaves no image for test. None of these .* test image .*BreakHis. Add some, or"
    ):
        check_split(MANY, make_split(MANY, TASKS, "audit", SHARES, 0), "audit")


# Real data


def test_fold1_reproduces_the_official_test_part(real_data: Path) -> None:
    table = breakhis(real_data / "image_data.csv")
    official = read_fold_table(real_data / "dsfoldTable.csv")
    assert is_official(official)
    assert is_official(official.assign(filename="BreaKHis_v1/" + official["filename"]))
    split = make_split(table, TASKS, "fold1", SHARES, 0, official)
    assert split["part"].value_counts().to_dict() == {
        "train": pytest.approx(3819, abs=20),
        "test": 2904,
        "val": pytest.approx(1186, abs=20),
    }
