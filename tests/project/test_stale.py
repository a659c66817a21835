"""Which parameter makes which stages stale: the whole of params.yaml, both ways."""

import fnmatch
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from dvc.stage import PipelineStage
from omegaconf import OmegaConf
from ruamel.yaml import YAML

from biopsy.core.params import Params
from scratch import call, clone, set_params

TRAIN, EVALUATE, REPORT = {"train@*"}, {"evaluate@*"}, {"report"}  # the report prints every parameter in force
# A section's line holds for each of its keys that has no line of its own.
STALE: dict[str, set[str]] = {
    "experiment": set(),
    "seed": {"split"} | TRAIN | REPORT,
    "tasks": {"impute", "split"} | REPORT,
    "protocols": {"split"} | REPORT,
    "labels": {"ingest", "impute"} | REPORT,
    "data": REPORT,  # the settings of sources that are not in force, and data.engine
    "data.source": {"fetch"} | REPORT,
    "data.slides": {"fetch"} | REPORT,
    "data.sample": {"fetch"} | REPORT,
    "ingest": {"ingest"} | REPORT,
    "ingest.columns.path": {"ingest", "split"} | REPORT,
    "ingest.max_pixels": {"ingest", "resize"} | REPORT,
    "ingest.min_size": {"ingest", "resize"} | REPORT,
    "impute": {"impute"} | REPORT,
    "split": {"split"} | REPORT,
    "resize": {"resize"} | TRAIN | REPORT,
    "stain": {"stain@*"} | REPORT,
    "model": TRAIN | REPORT,
    "augment": TRAIN | REPORT,
    "train": TRAIN | REPORT,
    "train.cache_mb": REPORT,
    "tune": set(),
    "evaluate": EVALUATE | REPORT,
    "export": {"export@*"},
}
NEVER = [  # a change in a section of the first kind reaches no stage of the second, not even by way of others
    ("seed", {"fetch", "ingest", "impute", "resize"}),
    ("split", {"fetch", "ingest", "impute", "resize"}),
    ("protocols", {"fetch", "ingest", "impute", "resize"}),
    ("evaluate", {"fetch", "ingest", "impute", "split", "resize"} | TRAIN),
    ("model", {"fetch", "ingest", "impute", "split", "resize"}),
    ("augment", {"fetch", "ingest", "impute", "split", "resize"}),
    ("train", {"fetch", "ingest", "impute", "split", "resize"}),
    ("stain", {"fetch", "ingest", "impute", "split", "resize"}),
    ("resize", {"fetch", "ingest", "impute", "split"}),
]


def leaves(content: dict[str, Any], above: str = "") -> Iterator[str]:
    """Every key of params.yaml, `train.epochs` and its like; an empty mapping is a key too."""
    for name, value in content.items():
        key = f"{above}{name}"
        if isinstance(value, dict) and value and key != "augment.every":
            yield from leaves(value, f"{key}.")
        else:
            yield key


def expected(key: str, stages: list[str]) -> set[str]:
    """The table's stages for a key: those of the longest line that it stands under."""
    line = max((line for line in STALE if f"{key}.".startswith(f"{line}.")), key=len)
    return {stage for stage in stages if any(fnmatch.fnmatch(stage, pattern) for pattern in STALE[line])}


@pytest.fixture(scope="module")
def project(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(origin, tmp_path_factory.mktemp("stale"), narrow=True)


def test_the_table_names_every_section() -> None:
    assert {line.split(".")[0] for line in STALE} == set(Params.model_fields)


def stale_by_parameters(stages: list[PipelineStage]) -> set[str]:
    """What `dvc status` says of parameters; its look at every file, which costs most of its time, is left out."""
    return {s.addressing for s in stages for d in s.deps if isinstance(d, ParamsDependency) and d.workspace_status()}


def test_each_parameter_makes_exactly_its_stages_stale(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    stages = list(Repo().index.stages)
    names = [stage.addressing for stage in stages]
    assert len(names) == 10
    assert stale_by_parameters(stages) == set()
    # DVC parses both files once for each stage; here once for all parameters.
    parsed = {path: YAML(typ="safe").load(Path(path)) for path in ("params.yaml", "data/outside.yaml")}
    monkeypatch.setattr("dvc.dependency.param.load_path", lambda path, *_: parsed[os.path.relpath(path)])
    original, wrong = parsed["params.yaml"], {}
    for key in leaves(original):
        new = ["multiclass", "binary"] if key == "tasks" else ["case", "image"] if key == "protocols" else "changed"
        changed = OmegaConf.create(original)
        OmegaConf.update(changed, key, new, merge=False)
        parsed["params.yaml"] = OmegaConf.to_container(changed)
        stale = stale_by_parameters(stages)
        if stale != expected(key, names):
            wrong[key] = sorted(stale)
    assert wrong == {}


@pytest.mark.parametrize(("section", "untouched"), NEVER)
def test_a_change_reaches_no_stage_that_does_not_depend_on_it(project: Path, section: str, untouched: set[str]) -> None:
    graph = Repo(str(project)).index.graph  # from a stage to those it depends on
    names = {stage.addressing: stage for stage in graph}
    reached = {name for key in STALE if key.split(".")[0] == section for name in expected(key, list(names))}
    while more := {s.addressing for name in reached for s in graph.predecessors(names[name])} - reached:
        reached |= more
    assert not {name for name in reached if any(fnmatch.fnmatch(name, pattern) for pattern in untouched)}


def test_a_new_split_is_made_without_resizing_and_makes_the_trainings_stale(project: Path) -> None:
    set_params(project, split__train=0.6, split__val=0.2, split__test=0.2)
    printed = call(project, "dvc", "repro", "split", "resize").stdout
    assert "Running stage 'split'" in printed
    assert "Stage 'resize' didn't change, skipping" in printed
    stale = json.loads(call(project, "dvc", "status", "--json").stdout)
    assert {name.split("@")[0] for name in stale} == {"stain", "train", "evaluate", "export", "report"}
    call(project, "git", "checkout", "params.yaml", "dvc.lock", "metrics")
    call(project, "dvc", "checkout", "-q")
    assert json.loads(call(project, "dvc", "status", "--json").stdout) == {}
