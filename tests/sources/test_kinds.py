"""The sources by name, each with a section of its own; adding one is a file and a preset."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from biopsy.core.errors import ParamsError, SourceError
from biopsy.core.outside import Outside
from biopsy.core.params import parse_params
from biopsy.core.sections.data import Data
from biopsy.core.sections.section import Section
from biopsy.sources.fetch import RAW, fill, outside_paths
from biopsy.sources.kinds.registry import SOURCES, Source, read_settings
from biopsy.sources.user_files import make_facts
from conftest import ROOT


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"source": "sampel"}, ["data.source must be one of breakhis, local, sample", "Did you mean 'sample'?"]),
        ({"smaple": {}}, ["unknown parameter 'data.smaple'", "Did you mean 'sample'?"]),
        ({"slide": "a.csv"}, ["unknown parameter 'data.slide'", "Did you mean 'slides'?"]),
        ({"sample": {"imagse": 50}}, ["unknown parameter 'data.sample.imagse'", "Did you mean 'images'?"]),
        ({"sample": {"images": 47}}, ["'data.sample.images'", "greater than or equal to 48", "Got 47"]),
        ({"sample": {"images": "60"}}, ["'data.sample.images'", "valid integer", "Got '60'"]),
        ({"sample": 3}, ["'data.sample'", "Got 3"]),
        ({"breakhis": {"url": "ftp://x"}}, ["'data.breakhis.url' must match", "Got 'ftp://x'"]),
        ({"local": {"csv": 7}}, ["'data.local.csv'", "valid string"]),
    ],
)
def test_a_mistake_names_key_allowed_and_received_also_in_sections_not_in_use(
    data: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ParamsError) as error:
        read_settings(Data(**data))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("name", SOURCES)
def test_each_source_has_a_preset_and_reads_its_own_section(name: str) -> None:
    assert (ROOT / f"conf/data/{name}.yaml").is_file()
    source, settings = read_settings(Data(source=name))
    assert (source.name, type(settings)) == (name, source.settings)


@pytest.mark.parametrize("key", ["csv", "images"])
def test_a_path_inside_data_raw_is_rejected_since_that_folder_is_replaced(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (RAW / "mine").mkdir(parents=True)
    (tmp_path / "link").symlink_to(RAW / "mine")
    for inside in (str(RAW / "mine"), str(RAW.resolve()), "link"):
        local = {"csv": "my.csv", "images": "my images"} | {key: inside}
        with pytest.raises(SourceError, match=rf"data\.local\.{key}: .* lies in data/raw, which this pipeline re"):
            outside_paths(Data(source="local", local=local))


def test_a_source_of_ones_own_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(Section):
        count: int = Field(2, ge=1)

    def draw(settings: Mine, folder: Path, downloads: Path) -> dict[str, Any]:
        for number in range(settings.count):
            (folder / "images" / f"{number}.png").touch()
        return make_facts("mine", "drawn", settings.count, {})

    entry = Source("mine", "For a test.", Mine, draw, lambda settings: [Outside("data.mine", Path("x"), "images")])
    monkeypatch.setitem(SOURCES, "mine", entry)
    data = parse_params({"data": {"source": "mine", "mine": {"count": 3}}}).data
    assert outside_paths(data) == [Outside("data.mine", Path("x"), "data/raw/images")]
    assert fill(data, tmp_path, tmp_path)["images"] == 3
    assert len(list((tmp_path / "images").iterdir())) == 3
    assert (tmp_path / "slides.csv").read_text() == "slide\n"
