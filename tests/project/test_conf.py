"""conf/ holds the presets and their comments; params.yaml is their composed default."""

from pathlib import Path

import pytest
from dvc.utils.hydra import compose_and_dump
from omegaconf import OmegaConf

from biopsy.core.params import parse_params
from biopsy.sources.kinds.registry import read_settings
from conftest import ROOT

PRESETS = sorted(p for p in (ROOT / "conf").rglob("*.yaml") if p.name != "config.yaml")
LOCAL = ["data.local.csv=a.csv", "data.local.images=b"]


def compose(tmp_path: Path, *overrides: str) -> Path:
    target = tmp_path / "params.yaml"
    compose_and_dump(target, str(ROOT / "conf"), None, "config", "params", list(overrides))
    return target


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
        (["data=breakhis"], 256, 0.001),
        (["data=local", *LOCAL], 256, 0.001),
        (["data=breakhis", "train=reference"], 256, 0.0001),
        (["data=breakhis", "+experiment=reference"], 256, 0.0001),
    ],
    ids=str,
)
def test_real_images_are_not_trained_like_the_small_sample(
    overrides: list[str], size: int, rate: float, tmp_path: Path
) -> None:
    params = OmegaConf.load(compose(tmp_path, *overrides))
    assert (params.resize.size, params.train.learning_rate) == (size, rate)


@pytest.mark.parametrize("scheme", ["breakhis", "from_csv"])
def test_labels_are_mapped_from_the_command_line(scheme: str, tmp_path: Path) -> None:
    composed = compose(tmp_path, f"labels={scheme}", "labels.map={0: benign, 1: malignant}")
    params = parse_params(OmegaConf.to_container(OmegaConf.load(composed)))
    assert params.labels.map == {"0": "benign", "1": "malignant"}


def test_parts_are_mapped_from_the_command_line(tmp_path: Path) -> None:
    composed = compose(tmp_path, "split.map={0: train, 2: test}")
    assert parse_params(OmegaConf.to_container(OmegaConf.load(composed))).split.map == {"0": "train", "2": "test"}
