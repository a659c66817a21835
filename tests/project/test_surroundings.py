"""What stands around the project for a team: CI, hooks, container; held against schemas, their shell parts run."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from scratch import ROOT, call, clone, environment, set_params

DOCKERFILES = ("Dockerfile", "Dockerfile.serve")
WORKFLOW, GITLAB = ROOT / ".github/workflows/ci.yml", ROOT / ".gitlab-ci.yml"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env=environment(ROOT), capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        (".github/workflows/ci.yml", "github-workflows"),
        (".github/dependabot.yml", "dependabot"),
        (".gitlab-ci.yml", "gitlab-ci"),
        ("compose.yaml", "compose-spec"),
        ("CITATION.cff", "citation-file-format"),
    ],
)
def test_each_file_is_as_its_published_schema_says(file: str, schema: str) -> None:
    result = run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", file)
    assert result.returncode == 0, result.stdout


def test_an_installed_package_holds_every_file_that_is_no_code() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {
        file for name, globs in listed.items() for glob in globs for file in (ROOT / name.replace(".", "/")).glob(glob)
    }
    found = {p for p in (ROOT / "biopsy").rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert found <= packed


def test_each_dockerfile_is_lint_free_copies_only_what_docker_may_see_and_ends_without_root() -> None:
    result = run("hadolint", *DOCKERFILES)
    assert result.returncode == 0, result.stdout
    seen = set((ROOT / ".dockerignore").read_text().replace("!", "").split())
    for name in DOCKERFILES:
        lines = [line.split() for line in (ROOT / name).read_text().splitlines()]
        assert {source for line in lines if line[:1] == ["COPY"] for source in line[1:-1]} <= seen
        assert [line for line in lines if line[:1] == ["USER"]][-1:] == [["USER", "1000"]]
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")[1:]
    assert [stage.split(" AS ")[1].split()[0] for stage in stages] == ["base", "gpu", "cpu"]
    assert all("\nUSER 1000\n" in stage for stage in stages[1:])


def test_the_container_that_serves_installs_no_pipeline_and_compose_runs_it_read_only_for_prometheus() -> None:
    lines = (ROOT / "Dockerfile.serve").read_text().splitlines()
    assert [line for line in lines if "pip install" in line and "-c requirements-dev.txt '.[serve]'" in line]
    assert [line for line in lines if line.startswith("HEALTHCHECK") and "8000/health" in line]
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    server, prometheus = compose["services"]["biopsy"], compose["services"]["prometheus"]
    assert (ROOT / server["build"]["dockerfile"]).is_file()
    assert server["read_only"] is True
    assert all(port.startswith("127.0.0.1:") for port in server["ports"] + prometheus["ports"])
    (job,) = yaml.safe_load(compose["configs"]["prometheus"]["content"])["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["biopsy:8000"]}]
    assert job["authorization"]["credentials_file"] == "/run/secrets/token"
    assert compose["secrets"]["token"]["environment"] in server["environment"]


def test_what_make_starts_keeps_compiled_modules() -> None:
    asked = {**environment(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = ("make", "-s", "--eval", "told: ; @env", "told")
    told = subprocess.run(command, cwd=ROOT, env=asked, capture_output=True, text=True, check=True).stdout
    assert "PATH=" in told
    assert "PYTHONDONTWRITEBYTECODE" not in told


def test_the_dev_container_builds_a_target_of_the_dockerfile() -> None:
    content = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert f" AS {content['build']['target']}\n" in (ROOT / "Dockerfile").read_text()


def test_the_hooks_are_valid_and_pass_on_this_tree() -> None:
    assert run("pre-commit", "validate-config").returncode == 0
    files = [".pre-commit-config.yaml", "biopsy/cli/__init__.py", "tests/project/test_surroundings.py"]
    for hook in ("ruff-format", "ruff-check", "large-files", "private-key", "notebooks"):
        result = run("pre-commit", "run", hook, "--files", *files)
        assert result.returncode == 0, result.stdout + result.stderr


def shell_parts() -> list[str]:
    steps = [step for job in yaml.safe_load(WORKFLOW.read_text())["jobs"].values() for step in job["steps"]]
    jobs = [job for job in yaml.safe_load(GITLAB.read_text()).values() if "script" in job]
    return [step["run"] for step in steps if "run" in step] + [line for job in jobs for line in job["script"]]


def test_no_workflow_writes_more_than_a_comment_or_pastes_foreign_text_into_a_shell() -> None:
    content = yaml.safe_load(WORKFLOW.read_text())
    assert content["permissions"] == {"contents": "read"}
    assert content["jobs"]["compare"]["permissions"] == {"contents": "read", "pull-requests": "write"}
    for part in shell_parts():
        assert subprocess.run(["bash", "-n"], input=part, text=True, check=False).returncode == 0, part
        assert "${{" not in part, "a branch's name would become code"


def test_both_services_run_the_tests_and_the_same_comparison() -> None:
    parts = "\n".join(shell_parts())
    assert parts.count(".ci/run") == 2
    assert parts.count(".ci/compare ") == 2


def test_the_comment_of_a_pull_request_shows_what_changed(origin: Path, tmp_path: Path) -> None:
    """The comparing step of the workflow itself, on a branch whose figures have other decimals."""
    project = clone(origin, tmp_path)
    set_params(project, evaluate__digits=2)
    call(project, "dvc", "repro", "-q", "evaluate@binary-case")
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["compare"]["steps"]
    step = next(step["run"] for step in steps if step.get("name") == "Compare")
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/activate").write_text(f"PATH={Path(sys.executable).parent}:$PATH\n")
    call(project, "bash", "-e", "-o", "pipefail", "-c", step, BASE="origin/main", GITHUB_STEP_SUMMARY="summary.md")
    comment = (project / "comment.md").read_text()
    assert comment == (project / "summary.md").read_text()
    assert "| params.yaml | evaluate.digits | 3 | 2 |" in " ".join(comment.split())
    assert "metrics/binary-case/test.json" in comment
    assert comment.index("case_f1") < comment.index("macro_f1")
    assert "binary, protocol case: ROC" in (project / "plots-page/index.html").read_text()
