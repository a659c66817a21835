"""The layout that the README describes, and nothing beside it."""

import subprocess

from conftest import ROOT

FOLDERS = {
    ".ci", ".devcontainer", ".dvc", ".github", "benchmarks", "biopsy", "conf", "data", "docs", "metrics", "models",
    "plots", "stages", "tests",
}  # fmt: skip
FILES = {
    ".dockerignore", ".dvcignore", ".gitignore", ".gitlab-ci.yml", ".pre-commit-config.yaml", "CHANGELOG.md",
    "CITATION.cff", "CONTRIBUTING.md", "Dockerfile", "Dockerfile.serve", "LICENSE", "Makefile", "README.md",
    "compose.yaml", "dvc.lock", "dvc.yaml", "params.yaml", "pyproject.toml", "requirements-dev.txt", "requirements.txt",
}  # fmt: skip


def tracked() -> list[str]:
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_top_level_is_as_described() -> None:
    tops = {name.split("/")[0] for name in tracked()}
    assert tops == FOLDERS | FILES


def test_the_readme_names_every_folder_and_every_stage() -> None:
    readme = (ROOT / "README.md").read_text()
    for folder in FOLDERS - {".ci", ".devcontainer", ".dvc", ".github"}:
        assert f"{folder}/" in readme
    for stage in (ROOT / "stages").glob("*.py"):
        assert f"`{stage.stem}`" in readme


def test_git_holds_no_image_no_weights_and_nothing_large() -> None:
    for name in tracked():
        path = ROOT / name
        assert path.suffix not in {".png", ".jpg", ".keras", ".h5", ".npy", ".tar"}, name
        assert path.stat().st_size < 900_000, name
