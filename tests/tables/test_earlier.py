"""Adding patients never moves an old one: what a split that is drawn around an earlier one promises, as properties."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from label_tables import invented

from biopsy.core.errors import DataError
from biopsy.core.files import write_csv
from biopsy.core.sections.data import Split
from biopsy.tables.split.earlier import RECORD, Drawn, Earlier, how_drawn, record_of, written
from biopsy.tables.split.folds import assign_folds
from biopsy.tables.split.splits import make_split
from biopsy.tables.split.summary import check_split
from schemes import TASKS

SHARES = Split()
PROTOCOLS = ("image", "slide", "case", "case-2of4", "image-cv3", "case-cv4x2")


class Folder:
    """data/splits over several runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def draw(self, labels: pd.DataFrame, protocol: str, seed: int = 0, shares: Split = SHARES) -> pd.DataFrame:
        earlier, how = Earlier(self.path), how_drawn(seed, TASKS, protocol, shares)
        split = make_split(earlier.offer(labels, protocol, how), TASKS, protocol, shares, seed)
        check_split(labels, split, protocol)
        self.drawn, self.says = earlier.settle(labels, split, protocol, how), earlier.says
        self.path.mkdir(exist_ok=True)
        (self.path / RECORD).write_bytes(record_of({protocol: self.drawn}))
        write_csv(self.path / f"{protocol}.csv", written(split, labels))
        return split


@pytest.fixture
def splits(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "splits")


def patients(seed: int) -> list[pd.DataFrame]:
    """Three growing tables: patients, images of patients who were there, and a class are added; two slides a case."""
    rng = np.random.default_rng(seed)
    whole = invented({n: rng.integers(2, 5, 2 * c).tolist() for n, c in (("A", 6), ("F", 6), ("DC", 9), ("LC", 9))})
    number = whole["slide"].str.extract(r"(\d+)")[0].astype(int) // 2
    whole["case"] = whole["multiclass"] + number.astype(str)
    step = np.array(np.maximum(number // 3, whole["multiclass"] == "LC"), int)
    step[whole["image_id"].str.endswith("-0001") & (number == 0)] = 2
    twins = whole.index[step == 2][
        [0, -1]
    ]  # an image that A's first patient gains shows what one of a new patient does
    whole.loc[twins, "pixels_sha256"] = "twins"
    return [whole[step <= last].sample(frac=1, random_state=seed) for last in range(3)]


def unevenness(split: pd.DataFrame, labels: pd.DataFrame, name: str, shares: Split) -> float:
    """How far the images of a class are from the wanted shares of parts, or from equal folds."""
    column = split.columns[-1]
    found = split.loc[split["image_id"].isin(labels.loc[labels["multiclass"] == name, "image_id"]), column]
    found = found.value_counts(normalize=True).reindex(split[column].unique(), fill_value=0)
    wanted = [getattr(shares, part) if column == "part" else 1 / len(found) for part in found.index]
    return float(np.abs(found - wanted).sum())


@pytest.mark.parametrize(("seed", "protocol"), list(enumerate(PROTOCOLS)))
def test_whoever_is_added_nobody_moves_nothing_leaks_and_a_new_class_is_balanced_about_as_well(
    splits: Folder, protocol: str, seed: int
) -> None:
    before = pd.DataFrame({"image_id": []})
    for labels in patients(seed):
        split = splits.draw(labels, protocol, seed)
        both = before.merge(split, on="image_id", suffixes=("", " now"))
        assert len(both) == len(before)
        for column in before.columns[1:]:
            assert (both[column] == both[f"{column} now"]).all()
        assert splits.drawn.kept == splits.drawn.earlier == len(before)
        before = split
    fresh = make_split(labels, TASKS, protocol, SHARES, seed)
    assert not fresh.equals(before)
    assert unevenness(before, labels, "LC", SHARES) <= unevenness(fresh, labels, "LC", SHARES) + 0.15


def test_new_groups_go_to_the_folds_in_which_those_that_keep_theirs_have_few_images() -> None:
    counts, kept = np.array([[10], [2], [2], [5], [5]], float), np.array([0, 1, 2, -1, -1])
    for seed in range(8):
        assert sorted(assign_folds(counts, 1, 3, seed, kept)[3:]) == [1, 2]


def test_nothing_new_keeps_every_byte_and_the_counts_of_the_time_when_something_was(splits: Folder) -> None:
    first, second, _ = patients(0)
    splits.draw(first, "case")
    splits.draw(second, "case")
    files = {path: path.read_bytes() for path in splits.path.iterdir()}
    assert splits.drawn == Drawn(seed=0, tasks=TASKS, shares=(0.7, 0.15, 0.15), kept=len(first), earlier=len(first))
    assert f"{len(first)} of the {len(first)} images" in splits.says[0]
    splits.draw(second.iloc[::-1], "case")
    assert {path: path.read_bytes() for path in splits.path.iterdir()} == files
    assert splits.says == []


def test_another_seed_or_other_shares_or_no_table_draw_afresh_and_say_so(splits: Folder) -> None:
    first, second, _ = patients(1)
    for how, words in (({"seed": 1}, "seed changed"), ({"shares": Split(train=0.6, val=0.2, test=0.2)}, "shares")):
        splits.draw(first, "case")
        split = splits.draw(second, "case", **how)
        given = {"seed": 0, "shares": SHARES} | how
        pd.testing.assert_frame_equal(split, make_split(second, TASKS, "case", given["shares"], given["seed"]))
        assert words in splits.says[0]
        assert splits.drawn.kept == 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / RECORD).unlink(), "no drawn.json"),
        (lambda folder: (folder / RECORD).write_text('{"image": {"seed": "x"}}'), "no drawn.json"),
        (lambda folder: (folder / "image.csv").unlink(), "missing"),
        (lambda folder: (folder / "image.csv").write_text("image_id,part,pixels\na,train,1\nb,te"), "damaged"),
        (
            lambda folder: (folder / "image.csv").write_text("image_id,part,pixels\na,none,1\n"),
            "has none in its column",
        ),
        (lambda folder: (folder / "image.csv").write_text("image_id,part\na,train\n"), "no column pixels"),
    ],
)
def test_a_torn_or_foreign_table_is_not_kept_and_one_sentence_says_so(splits: Folder, spoil, words: str) -> None:
    labels = patients(0)[1]
    splits.draw(labels.iloc[:60], "image")
    spoil(splits.path)
    pd.testing.assert_frame_equal(splits.draw(labels, "image"), make_split(labels, TASKS, "image", SHARES, 0))
    assert len(splits.says) == 1
    assert words in splits.says[0]
    assert "drawn again" in splits.says[0]


def test_an_image_whose_pixels_changed_is_new_and_one_that_went_does_not_come_back(splits: Folder) -> None:
    first, labels, _ = patients(0)
    splits.draw(first, "image")
    old = splits.draw(labels, "image")
    other = labels.assign(pixels_sha256="new " + labels["pixels_sha256"])
    fresh = make_split(other, TASKS, "image", SHARES, 0)
    assert not fresh.equals(old)
    pd.testing.assert_frame_equal(splits.draw(other, "image"), fresh)
    assert splits.drawn.kept == 0
    few = splits.draw(other.iloc[:80], "image").set_index("image_id")["part"]
    assert (few == fresh.set_index("image_id")["part"][few.index]).all()
    assert splits.drawn.model_dump(include={"kept", "earlier"}) == {"kept": 80, "earlier": len(labels)}


@pytest.mark.parametrize(
    ("protocol", "gone"), [("image", "val"), ("case", "test"), ("slide", "val"), ("case-cv4x2", 2)]
)
def test_a_part_or_fold_all_of_whose_images_went_draws_afresh_and_says_so(
    splits: Folder, protocol: str, gone: str | int
) -> None:
    labels = patients(0)[1]
    before = splits.draw(labels, protocol)
    lost = before.loc[before[before.columns[1]] == gone, "image_id"]
    left = labels[~labels["image_id"].isin(lost)]
    pd.testing.assert_frame_equal(splits.draw(left, protocol), make_split(left, TASKS, protocol, SHARES, 0))
    place = gone if isinstance(gone, str) else f"fold {gone}"
    assert splits.says == [f"{protocol} is drawn again: no image of {place} is left."]
    assert splits.drawn.kept == 0


@pytest.mark.parametrize("protocol", ["image", "case"])
def test_a_class_all_of_whose_training_images_went_is_drawn_into_training_again(splits: Folder, protocol: str) -> None:
    labels = patients(0)[1]
    before = labels.merge(splits.draw(labels, protocol), on="image_id")
    lost = before.loc[(before["part"] == "train") & (before["multiclass"] == "A"), "image_id"]
    after = splits.draw(labels[~labels["image_id"].isin(lost)], protocol).merge(labels, on="image_id")
    assert "A" in set(after.loc[after["part"] == "train", "multiclass"])
    assert splits.says == [f"{protocol} is drawn again: no training image of multiclass 'A' is left."]


@pytest.mark.parametrize("protocol", ["case", "case-cv4x2"])
@pytest.mark.parametrize("link", ["pixels", "case"])
def test_what_links_two_sides_is_named_with_the_way_out(splits: Folder, protocol: str, link: str) -> None:
    labels = patients(0)[1].sort_values("image_id", ignore_index=True)
    split = splits.draw(labels, protocol)
    column = split.columns[1]
    sides = labels.merge(split, on="image_id").drop_duplicates(column)
    one, other = sides.iloc[0], sides.iloc[1]
    if link == "case":
        linked = labels.assign(case=labels["case"].replace({one["case"]: other["case"]}))
        words = "they are now of one case"
    else:
        new = pd.DataFrame([one, other])[labels.columns].assign(image_id=["new-1", "new-2"], pixels_sha256="same")
        linked, words = pd.concat([labels, new], ignore_index=True), "new-1, new-2"
    with pytest.raises(DataError, match=r"the earlier split has .* in .*`rm -r data/splits`") as caught:
        splits.draw(linked, protocol)
    assert words in str(caught.value)
    assert str(one[column]) in str(caught.value)


def test_given_and_published_parts_rule_and_the_validation_part_around_them_is_kept(splits: Folder) -> None:
    tables = [table.assign(given=np.where(table["case"].str[-1] == "0", "test", "train")) for table in patients(2)]
    old = splits.draw(tables[0], "given").set_index("image_id")["part"]
    now = splits.draw(tables[1], "given").set_index("image_id")["part"]
    assert (now[old.index] == old).all()
    moved = tables[1].assign(given=np.where(tables[1]["case"].str[-1] == "1", "test", "train"))
    third = splits.draw(moved, "given").set_index("image_id")["part"]
    assert set(third[moved.set_index("image_id")["given"] == "test"]) == {"test"}
    still = (now == "val") & (third != "test")
    assert (third[still.index[still]] == "val").all()
    assert 0 < splits.drawn.kept < splits.drawn.earlier
