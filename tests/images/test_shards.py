"""Trees whose images lie in archives: the same images, few files, and no promise of a tree of files is lost."""

import tarfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from biopsy.core import shards
from biopsy.core.errors import DataError
from biopsy.core.sections.data import Resize, Stain
from biopsy.core.shards import files_of, is_there, read_file, shards_for, shards_in
from biopsy.images import image_tree
from biopsy.images.image_tree import Maker, Recipe, Row, build_tree
from biopsy.images.preparation.record import FILE, Preparation
from biopsy.images.resize import encode_png
from biopsy.images.stained_tree import stain_all
from biopsy.tables.split.parts import hash_images, read_images

IDS = [f"ü {i}" for i in range(12)]
HOW = Preparation(max_pixels=10**6, resize=Resize(size=32))


class Tree:
    """A tree of small images in `root/tree`, above `limit` images in archives of `least` or more."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.patch, self.folder = root, monkeypatch, root / "tree"
        self.limit(6, 2)

    def limit(self, single: int, least: int = 2) -> None:
        self.patch.setattr(shards, "SINGLE_FILES", single)
        self.patch.setattr(shards, "LEAST", least)

    def build(self, ids: list[str] = IDS, changed: str = "") -> Counter[str]:
        def recipe(row: Row) -> Recipe:
            name = row["image_id"]
            seed = [len(name) + (name == changed), *name.encode()]
            pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3)).astype(np.uint8)
            return Recipe(str(seed), lambda: (encode_png(pixels), ""))

        rows = [{"image_id": name} for name in ids]
        return build_tree(rows, self.folder, self.root / "work" / "tree", HOW, Maker(recipe, "make"))[0]

    def pixels(self, ids: list[str] = IDS) -> np.ndarray:
        return read_images(files_of(self.folder, ids), 32)

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Inode and content of each file but the note of how it was made."""
        found = [path for path in self.folder.rglob("*") if path.is_file() and path.name != FILE]
        return {p.relative_to(self.folder).as_posix(): (p.stat().st_ino, p.read_bytes()) for p in found}


def members(archive: Path) -> list[str]:
    with tarfile.open(archive) as opened:
        return opened.getnames()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(tmp_path, monkeypatch)


def test_few_images_are_files_of_their_own_and_many_go_into_archives_of_one_to_two_thousand() -> None:
    assert [shards_for(n) for n in (0, 100_000, 100_001, 127_999, 128_000, 10**6)] == [0, 0, 64, 64, 128, 512]


def test_archives_hold_what_files_would_and_other_programs_read_them(tree: Tree) -> None:
    tree.limit(12)
    tree.build()
    single, files = tree.pixels(), sorted(tree.files())
    digest = hash_images(files_of(tree.folder, IDS), 32)
    assert files == sorted(f"{name}.png" for name in IDS)
    tree.limit(11)
    assert tree.build() == {"kept": 12, "removed": 12}
    assert (tree.pixels() == single).all()
    found = sorted(tree.files())
    assert shards_in(tree.folder) == 4
    assert set(found) <= {f"{i:05}-of-00004.tar" for i in range(4)}
    assert sorted(name for file in found for name in members(tree.folder / file)) == files
    assert hash_images(files_of(tree.folder, IDS), 32) == digest
    assert not (tree.root / "work/tree").exists()


def test_equal_images_give_equal_archives_in_whatever_order_they_come(tree: Tree) -> None:
    tree.build()
    first = {name: content for name, (_, content) in tree.files().items()}
    tree.folder.rename(tree.root / "other")
    (tree.root / "work/tree.jsonl").unlink()
    assert tree.build(IDS[::-1])["made"] == 12
    assert {name: content for name, (_, content) in tree.files().items()} == first


def test_only_the_archives_of_changed_and_removed_images_are_written_anew(tree: Tree) -> None:
    tree.build()
    before = tree.files()
    assert tree.build() == {"kept": 12, "removed": 0}
    assert tree.files() == before
    assert tree.build(changed=IDS[3]) == {"made": 1, "kept": 11, "removed": 0}
    changed = files_of(tree.folder, [IDS[3]])[0].relative_to(tree.folder).parts[0]
    assert {name for name, found in tree.files().items() if found != before[name]} == {changed}
    gone = IDS[:3] + IDS[4:]
    tree.build(gone)
    assert not is_there(files_of(tree.folder, [IDS[3]])[0])
    assert len(tree.pixels(gone)) == 11


@pytest.mark.parametrize(("single", "least"), [(11, 1), (11, 6), (12, 2)])
def test_more_archives_fewer_or_none_cost_no_image_anew(tree: Tree, single: int, least: int) -> None:
    tree.build()
    before, old = tree.pixels(), set(tree.files())
    tree.limit(single, least)
    assert {**tree.build()} == {"kept": 12, "removed": len(old)}
    assert shards_in(tree.folder) == (0 if single == 12 else 8 if least == 1 else 2)
    assert (tree.pixels() == before).all()


def test_a_run_that_stops_while_it_packs_leaves_the_earlier_tree_and_goes_on(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.build(IDS[:10])
    before, done = tree.files(), list[Path]()

    def stopped(path: Path, *given: object) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(path)
        shards.write_shard(path, *given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(image_tree, "write_shard", stopped)
        with pytest.raises(KeyboardInterrupt):
            tree.build(changed=IDS[0])
    assert tree.files() == before
    assert tree.build(changed=IDS[0])["made"] == 0
    whole = tree.files()
    tree.folder.rename(tree.root / "stopped")
    (tree.root / "work/tree.jsonl").unlink()
    tree.build(changed=IDS[0])
    assert {k: v[1] for k, v in tree.files().items()} == {k: v[1] for k, v in whole.items()}


@pytest.mark.parametrize("damage", ["cut", "noise", "gone", "empty"])
def test_images_of_a_damaged_archive_are_made_again_and_no_others(tree: Tree, damage: str) -> None:
    tree.build()
    before = tree.pixels()
    victim = tree.folder / sorted(tree.files())[0]
    inside = len(members(victim))
    content = victim.read_bytes()
    victim.unlink()
    if damage != "gone":
        victim.write_bytes({"cut": content[:700], "noise": bytes(range(256)) * 8, "empty": b""}[damage])
    with pytest.raises(DataError, match=r"\.png cannot be read\. Run `dvc repro resize` to make it again\."):
        tree.pixels()
    lost = pd.DataFrame({"image_id": IDS, "part": "train", "pixels_sha256": ""})
    with pytest.raises(DataError, match=r"\.png is missing\. Run `dvc repro resize` to make it again\."):
        stain_all({"": lost}, tree.folder, tree.root / "case", tree.root / "work", Stain(method="reinhard"), HOW)
    counts = tree.build()
    assert counts["made"] in (inside, inside - 1)  # a cut may spare the first
    assert (tree.pixels() == before).all()


def test_a_persons_own_archive_in_the_tree_stops_the_stage(tree: Tree) -> None:
    tree.build()
    (tree.folder / "mine.tar").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"mine\.tar"):
        tree.build()
    assert (tree.folder / "mine.tar").read_bytes() == b"mine"


def test_a_stain_is_normalised_from_archives_as_from_files(tmp_path: Path, tree: Tree) -> None:
    rng, seen = np.random.default_rng(0), []
    table = pd.DataFrame({"image_id": IDS, "part": ["train"] * 6 + ["val", "test"] * 3, "pixels_sha256": ""})
    colours = {name: rng.integers(60, 240, (32, 32, 3)).astype(np.uint8) for name in IDS}
    for single in (12, 11):
        tree.limit(single)
        root = tmp_path / str(single)
        maker = Maker(lambda row: Recipe(row["image_id"], lambda: (encode_png(colours[row["image_id"]]), "")), "make")
        build_tree(table.to_dict("records"), root / "tree", root / "work" / "tree", HOW, maker)
        told, counts = stain_all(
            {"": table}, root / "tree", root / "case", root / "work", Stain(method="reinhard"), HOW
        )
        assert counts["made"] == 12
        seen.append((told, read_images(files_of(root / "case", IDS), 32)))
        assert shards_in(root / "case") == (4 if single == 11 else 0)
    assert seen[0][0] == seen[1][0]
    assert (seen[0][1] == seen[1][1]).all()


def test_a_file_below_a_folder_that_is_called_like_an_archive_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "photos.tar" / "a.png"
    path.parent.mkdir()
    cv2.imwrite(str(path), np.zeros((2, 2, 3), np.uint8))
    assert read_file(path) == path.read_bytes()
    assert is_there(path)
    assert not is_there(path.with_name("b.png"))
