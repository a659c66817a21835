"""docs/registry.md, command by command; `biopsy info` and the files that it refuses."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from biopsy.core.errors import SourceError
from biopsy.experiments.model_info import describe_model, dvc_hash
from biopsy.networks.model_file import read_card, write_card
from scratch import ROOT, UNDRAWN, call, clone, commit
from walkthrough import follow


def test_every_command_of_the_page_does_what_it_promises(origin: Path, tmp_path: Path) -> None:
    project = clone(origin, tmp_path, narrow=True)
    call(project, "dvc", "remote", "modify", "storage", "url", f"{tmp_path}/biopsy-remote")
    commit(project, "remote")  # the first version's too: it is fetched from a clone that lies elsewhere
    call(tmp_path, "git", "init", "-q", "--bare", "-b", "main", "team.git")
    call(project, "git", "remote", "set-url", "origin", f"file://{tmp_path}/team.git")
    call(project, "dvc", "push", "-q")
    (tmp_path / "service").mkdir()
    follow("registry.md", project, TEAM=f"file://{tmp_path}/team.git", **UNDRAWN)
    earlier, later = (tmp_path / "service" / name / "model.keras" for name in ("earlier", "model"))
    assert later.read_bytes() == (project / "models/binary-case/model.keras").read_bytes()
    assert earlier.read_bytes() != later.read_bytes()


def test_every_model_of_the_default_matrix_has_a_name() -> None:
    content = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    names = {f"{task}-{protocol}" for task in params["tasks"] for protocol in params["protocols"]}
    assert set(content["artifacts"]) == names
    for name, artifact in content["artifacts"].items():
        assert artifact["path"] == f"models/{name}"
        assert artifact["type"] == "model"
        assert "Research use only" in artifact["desc"]


@pytest.fixture(scope="module")
def project(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(origin, tmp_path_factory.mktemp("registry"))


def test_info_knows_each_model_its_commit_and_its_figures(project: Path) -> None:
    lock = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    for name in ("binary-case", "multiclass-image"):
        outs = {out["path"]: out["md5"] for out in lock[f"train@{name}"]["outs"]}
        assert dvc_hash(project / "models" / name) == outs[f"models/{name}"]
        said = describe_model(project / "models" / name, project)
        assert call(project, "git", "log", "-1", "--format=%h, %as, run").stdout.strip() in said
        for key, value in json.loads((project / f"metrics/{name}/test.json").read_text()).items():
            assert f"{key} {'-' if value is None else value}" in " ".join(said.split())
        assert max(map(len, said.splitlines())) <= 100


def test_info_gives_no_figures_of_other_bytes(project: Path, tmp_path: Path) -> None:
    """The model stays a model of ours when only its card changes, but it is not the one that was tested."""
    other = shutil.copytree(project / "models/binary-case", tmp_path / "other")
    write_card(other, read_card(other).model_copy(update={"threshold": 0.4}))
    said = " ".join(describe_model(other, project).split())
    assert "commit none: no dvc.lock of this history holds this model" in said
    assert "no figures of exactly this model" in said


def test_info_outside_a_project_says_what_it_cannot_know(project: Path, tmp_path: Path) -> None:
    said = " ".join(describe_model(project / "models/binary-case", tmp_path).split())
    assert "commit unknown: there is no git history here" in said
    assert "no figures" in said


def test_info_in_a_shallow_clone_does_not_pretend_to_know_the_first_commit(origin: Path, tmp_path: Path) -> None:
    project = clone(origin, tmp_path, options=("--depth", "1"))
    assert "no full history" in " ".join(describe_model(project / "models/binary-case", project).split())


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_info_refuses_a_model_that_is_not_the_one_of_its_card(project: Path, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(project / "models/binary-case", tmp_path / "model")
    file = folder / "model.keras"
    content = file.read_bytes()
    file.unlink()
    if damage == "changed":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(SourceError, match=r"model\.keras .*dvc (checkout|pull)"):
        describe_model(folder, project)


def test_the_command_says_it_in_one_sentence(project: Path) -> None:
    result = call(project, "biopsy", "info", "models/nothing", check=False)
    assert result.returncode == 4
    assert result.stderr.startswith("error: models/nothing is not a model's folder. Name one such as models/bi")
