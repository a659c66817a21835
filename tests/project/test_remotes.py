"""docs/remotes.md, command by command, against real servers (S3, OpenSSH, HTTP), and what a bad remote does."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from biopsy.experiments.model_info import dvc_hash
from scratch import ROOT, call, clone, commit
from servers import http_server, s3_keys, s3_server, ssh_server
from walkthrough import follow

SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|"
    r"^\s*(access_key_id|secret_access_key|password|account_key|sas_token|connection_string)\s*=",
    re.MULTILINE,
)


def files(root: Path) -> set[str]:
    """What the pipeline wrote, without what git holds."""
    found = {p.relative_to(root).as_posix() for top in ("data", "models", "plots") for p in (root / top).rglob("*")}
    of_git = set(call(root, "git", "ls-files", "data", "models", "plots").stdout.split())
    return {name for name in found if (root / name).is_file()} - of_git


def model_objects(root: Path, remote: Path) -> tuple[Path, Path]:
    """The remote's files that hold the weights of binary-case, and the list of its folder."""
    outs = yaml.safe_load((root / "dvc.lock").read_text())["stages"]["train@binary-case"]["outs"]
    tree = next(out["md5"] for out in outs if out["path"] == "models/binary-case")
    listing = remote / "files/md5" / tree[:2] / tree[2:]
    name = next(entry["md5"] for entry in json.loads(listing.read_text()) if entry["relpath"] == "model.keras")
    return remote / "files/md5" / name[:2] / name[2:], listing


def test_no_file_of_git_holds_a_credential_and_the_local_settings_are_ignored() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    found = [
        name
        for name in listed
        if name != "tests/project/test_remotes.py" and SECRET.search((ROOT / name).read_text(errors="ignore"))
    ]
    assert found == []
    assert subprocess.run(["git", "check-ignore", "-q", ".dvc/config.local"], cwd=ROOT).returncode == 0


def test_the_search_for_credentials_finds_one() -> None:
    assert SECRET.search("['remote \"team\"']\n    secret_access_key = abc\n")
    assert SECRET.search("key AKIAABCDEFGHIJKLMNOP")


def test_a_clone_beside_it_takes_what_it_asks_for_and_need_not_run_anything(origin: Path, tmp_path: Path) -> None:
    project = clone(origin, tmp_path, pull=False, narrow=True)
    (tmp_path / "elsewhere").mkdir()
    call(tmp_path / "elsewhere", "git", "init", "-q")
    call(tmp_path / "elsewhere", "dvc", "init", "-q")
    call(project, "dvc", "pull", "models/binary-case")
    assert files(project) == {"models/binary-case/model.json", "models/binary-case/model.keras"}
    call(project, "dvc", "pull", "train")
    assert {name.split("/")[0] for name in files(project)} == {"models", "plots"}
    call(project, "git", "clean", "-fdxq", "models", "plots")
    printed = follow("remotes.md", project, "What can I fetch?", BIOPSY=str(project))
    assert "Running stage" not in printed["dvc repro --dry --allow-missing"]
    model = (project / "models/binary-case/model.keras").read_bytes()
    for name in ("copy", "tracked"):
        assert (tmp_path / "elsewhere" / name / "model.keras").read_bytes() == model


def test_pulling_instead_of_running_ends_up_to_date(origin: Path, tmp_path: Path) -> None:
    project = clone(origin, tmp_path, pull=False, narrow=True)
    printed = call(project, "dvc", "repro", "--pull").stdout
    assert "Running stage" not in printed
    assert "Data and pipelines are up to date." in printed
    assert call(project, "git", "status", "--porcelain").stdout == ""


def colleague(project: Path, base: Path) -> Path:
    """Somebody else clones the project, has the same credentials, and pulls all of it."""
    call(base, "git", "clone", "-q", str(project), "colleague")
    shutil.copy(project / ".dvc/config.local", base / "colleague/.dvc/config.local")
    call(base / "colleague", "dvc", "pull", "-q")
    assert files(base / "colleague") == files(project)
    return base / "colleague"


def clean_up(project: Path) -> str:
    """Let `dvc gc` clean the remote: what a tag or the workspace uses stays; return the object that nothing uses."""
    call(project, "git", "tag", "v1")
    for release in ("two", "lost"):
        card = project / "models/binary-case/model.json"
        content = card.read_text()
        card.unlink()
        card.write_text(content + "\n")
        call(project, "dvc", "commit", "-q", "-f", "train@binary-case")
        call(project, "dvc", "push", "-q", "train@binary-case")
        if release == "two":
            commit(project, release)
            kept = (project / "dvc.lock").read_text()
        else:
            lost = dvc_hash(project / "models/binary-case")
    call(project, "git", "checkout", "-q", "dvc.lock")
    assert (project / "dvc.lock").read_text() == kept
    call(project, "dvc", "checkout", "-q", "--force")
    call(project, "dvc", "gc", "-q", "--workspace", "--all-tags", "--cloud", "--force")
    for revision in ("main", "v1"):
        shutil.rmtree(project / ".dvc/cache")
        call(project, "git", "checkout", "-q", revision)
        call(project, "dvc", "fetch", "-q", "train")
    return f"files/md5/{lost[:2]}/{lost[2:]}"


def test_an_s3_server_gives_back_what_it_was_given(origin: Path, tmp_path: Path) -> None:
    project = clone(origin, tmp_path, narrow=True)
    with s3_server(tmp_path) as endpoint:
        swap = {"https://s3.example.org": endpoint}
        follow("remotes.md", project, "S3", swap, KEY="k", SECRET="s", AWS_DEFAULT_REGION="us-east-1")
        assert "secret_access_key" in (project / ".dvc/config.local").read_text()
        assert call(project, "git", "status", "--porcelain").stdout == ""
        colleague(project, tmp_path)
        key = f"biopsy/{clean_up(project)}"
        assert not any(name == key for name in s3_keys(endpoint))


def test_an_openssh_server_gives_back_what_it_was_given(origin: Path, tmp_path: Path) -> None:
    project = clone(origin, tmp_path, narrow=True)
    with ssh_server(tmp_path / "ssh") as (port, key):
        import getpass

        place = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{tmp_path}/served"
        swap = {"ssh://me@host.example.org:22/srv/biopsy": place, "~/.ssh/id_ed25519": str(key)}
        follow("remotes.md", project, "SSH", swap)
        assert (tmp_path / "served/files/md5").is_dir()
        colleague(project, tmp_path)


def test_any_web_server_is_a_remote_to_read_from(origin: Path, tmp_path: Path) -> None:
    project = clone(origin, tmp_path, pull=False, narrow=True)
    with http_server(tmp_path, tmp_path / "biopsy-remote") as address:
        follow("remotes.md", project, "HTTP", {"https://files.example.org/biopsy": address})
    assert files(project) == {"models/binary-case/model.json", "models/binary-case/model.keras"}


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_bad_object_on_the_remote_is_named_and_made_again(origin: Path, tmp_path: Path, damage: str) -> None:
    project, remote = clone(origin, tmp_path, pull=False, narrow=True), tmp_path / "biopsy-remote"
    weights, listing = model_objects(project, remote)
    content = weights.read_bytes()
    weights.unlink()
    if damage == "changed":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    pulled = call(project, "dvc", "pull", check=False)
    assert pulled.returncode != 0
    assert "Traceback" not in pulled.stderr
    assert ("models/binary-case" if damage == "changed" else weights.name) in pulled.stderr
    assert not (project / "models/binary-case").exists()
    assert "models/binary-case" in call(project, "dvc", "checkout", check=False).stderr
    assert not (project / "models/binary-case").exists()
    assert (project / "plots/binary-case/train/curves.png").is_file()
    stale = json.loads(call(project, "dvc", "status", "--json").stdout)
    assert next(iter(stale)) == "train@binary-case"
    if damage == "missing":
        call(project, "dvc", "repro", "-q", "train@binary-case")
        assert call(project, "dvc", "push").stdout == "Everything is up to date.\n"
        assert not weights.exists(), "DVC goes by the list of the folder, as the page says"
        listing.unlink()
        call(project, "dvc", "push", "-q")
        assert weights.read_bytes() == content
        assert call(project, "git", "status", "--porcelain").stdout == ""
