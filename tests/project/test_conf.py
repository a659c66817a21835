"""conf/ holds the presets and their comments; params.yaml is their composed default."""

from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import compose_and_dump
from omegaconf import OmegaConf

from biopsy.core.params import flat, parse_params
from biopsy.sources.kinds.registry import read_settings
from conftest import ROOT

PRESETS = sorted(p for p in (ROOT / "conf").rglob("*.yaml") if p.name != "config.yaml")
LOCAL = ["data.local.csv=a.csv", "data.local.images=b"]


def compose(tmp_path: Path, *overrides: str) -> Path:
    target = tmp_path / "params.yaml"
    compose_and_dump(target, str(ROOT / "conf"), None, "config", "params", list(overrides))
    return target


def composed(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    content: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(compose(tmp_path, *overrides)))
    return content


def test_params_yaml_is_the_composed_default(tmp_path: Path) -> None:
    assert (ROOT / "params.yaml").read_text() == compose(tmp_path).read_text()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_preset_composes_to_valid_parameters(preset: Path, tmp_path: Path) -> None:
    group, name = preset.parent.name, preset.stem
    override = f"+{group}={name}" if group == "experiment" else f"{group}={name}"
    composed = compose(tmp_path, override, *(LOCAL if name == "local" else []))
    read_settings(parse_params(OmegaConf.to_container(OmegaConf.load(composed))).data)


@pytest.mark.parametrize("preset", sorted((ROOT / "conf/experiment").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_experiment_names_itself_so_that_the_tables_can(preset: Path) -> None:
    assert OmegaConf.load(preset)["experiment"] == preset.stem


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_preset_opens_with_what_it_is_and_its_command(preset: Path) -> None:
    head = [line for line in preset.read_text().splitlines() if line.startswith("#")]
    assert any(f"{preset.parent.name}={preset.stem}" in line or "dvc repro" in line for line in head)
    assert len(head) >= 2


@pytest.mark.parametrize(
    ("overrides", "size", "rate"),
    [
        ([], 96, 0.005),
        (["data=breakhis"], 224, 0.001),
        (["data=local", *LOCAL], 224, 0.001),
        (["data=breakhis", "train=reference"], 224, 0.0001),
        (["data=breakhis", "+experiment=reference"], 256, 0.0001),
    ],
    ids=str,
)
def test_real_images_are_not_trained_like_the_small_sample(
    overrides: list[str], size: int, rate: float, tmp_path: Path
) -> None:
    params = OmegaConf.load(compose(tmp_path, *overrides))
    assert (params.resize.size, params.train.learning_rate) == (size, rate)


@pytest.mark.parametrize("data", [["data=breakhis"], ["data=local", *LOCAL]], ids=lambda overrides: overrides[0])
def test_real_images_get_the_recommended_preset_unless_another_is_named(data: list[str], tmp_path: Path) -> None:
    alone, named = (composed(tmp_path, *data, *more) for more in ([], ["+experiment=recommended"]))
    assert (alone.pop("experiment"), named.pop("experiment")) == (None, "recommended")
    assert alone == named
    assert (alone["model"]["head"]["kind"], alone["resize"]["mode"]) == ("probe", "tiles")


@pytest.mark.parametrize("data", [["data=local", *LOCAL], ["data=wsi"]], ids=lambda overrides: overrides[0])
def test_images_of_ones_own_have_labels_of_ones_own_unless_a_scheme_is_named(data: list[str], tmp_path: Path) -> None:
    """A user who said nothing was asked for BreakHis's columns: `Benign or Malignant`, `Magnification`."""
    own, named = (composed(tmp_path, *data, *more) for more in ([], ["labels=breakhis"]))
    assert (own["tasks"], own["labels"]["grammar"], own["ingest"]["columns"]["magnification"]) == (
        ["label"],
        None,
        None,
    )
    assert (named["tasks"], named["labels"]["grammar"]) == (["binary", "multiclass"], "breakhis")


def preset_values(path: Path) -> dict[str, Any]:
    """The values that a preset itself sets, by their dotted names; those of an experiment's groups included."""
    content = OmegaConf.to_container(OmegaConf.load(path))
    found: dict[str, Any] = {}
    for entry in content.pop("defaults", []):
        for group, name in entry.items() if isinstance(entry, dict) else ():
            chosen = group.removeprefix("override /")
            values = preset_values(ROOT / f"conf/{chosen}/{name}.yaml")
            found |= {f"{chosen}.{key}": value for key, value in values.items()}
    return found | dict(flat(content))


@pytest.mark.parametrize("path", sorted((ROOT / "conf/experiment").glob("*.yaml")), ids=lambda p: p.stem)
def test_a_named_experiment_wins_over_the_recommended_preset_and_has_something_to_change(
    path: Path, tmp_path: Path
) -> None:
    content = composed(tmp_path, "data=breakhis", f"+experiment={path.stem}", "data.slides=a.csv")
    params = parse_params(content)
    got = dict(flat(content))
    named = {key: value for key, value in preset_values(path).items() if not isinstance(value, dict)}
    assert {key: got[key] for key in named} == named
    trains = [key for key in named if key.startswith(("train.", "augment.")) and path.stem != "recommended"]
    assert not trains or params.model.head.kind == "dense"  # a probe is not trained


@pytest.mark.parametrize("model", ["cnn", "mobilenetv2"])
def test_a_named_model_and_a_value_win_over_the_recommended_preset(model: str, tmp_path: Path) -> None:
    content = composed(tmp_path, "data=breakhis", f"model={model}", "resize.size=448")
    parse_params(content)
    assert content["model"] == composed(tmp_path, f"model={model}")["model"]
    assert content["resize"]["size"] == 448


@pytest.mark.parametrize("scheme", ["breakhis", "from_csv"])
def test_labels_are_mapped_from_the_command_line(scheme: str, tmp_path: Path) -> None:
    composed = compose(tmp_path, f"labels={scheme}", "labels.map={0: benign, 1: malignant}")
    params = parse_params(OmegaConf.to_container(OmegaConf.load(composed)))
    assert params.labels.map == {"0": "benign", "1": "malignant"}


def test_parts_are_mapped_from_the_command_line(tmp_path: Path) -> None:
    composed = compose(tmp_path, "split.map={0: train, 2: test}")
    assert parse_params(OmegaConf.to_container(OmegaConf.load(composed))).split.map == {"0": "train", "2": "test"}
