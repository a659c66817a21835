"""What a trained model is, where it comes from and how well it did, as text for the terminal: `biopsy info`."""

import hashlib
import json
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from biopsy.files import read_json
from biopsy.model_file import check_bytes
from biopsy.results import KINDS, WIDTH

_LABEL = 14


def describe_model(folder: Path, root: Path = Path()) -> str:
    """Put a model's card, its origin and its test figures in words, once its bytes are checked.

    Parameters
    ----------
    folder
        Holds `model.keras` and `model.json`; inside the project or fetched from it by `dvc get`.
    root
        The project: its `dvc.lock`, metrics and git history say where the model comes from.

    Returns
    -------
    str
        Lines of at most 100 columns.

    Raises
    ------
    SourceError
        A file is missing, or `model.keras` is not the one that `model.json` describes.
    """
    card = check_bytes(folder)
    name = f"{card.task}-{card.protocol}"
    tree = dvc_hash(folder)
    lock = _read_lock(root)
    kind = KINDS.get(card.protocol.split("-")[0])
    output = "probability of " + card.classes[1] if len(card.classes) == 2 else "one probability a class"
    data = "; ".join(f"{part} {digest[:12]}" for part, digest in card.data.items())
    facts = [
        ("model", f"{name}, model.keras SHA-256 {card.model_sha256}"),
        ("protocol", card.protocol + (f" ({kind})" if kind else "")),
        ("classes", f"{', '.join(card.classes)}; output: {output}"),
        ("input", f"{card.size}x{card.size} pixels, RGB, 0 to 255; prepared inside the model: {card.preprocessing}"),
        ("threshold", f"{card.threshold:g}"),
        ("data", f"{'synthetic sample; ' if card.synthetic else ''}SHA-256 of {data}"),
        ("commit", _commit(root, lock, name, tree)),
        ("test", _figures(root, lock, name, tree)),
        ("parameters", ", ".join(f"{key}={value}" for key, value in _flat(card.params))),
        ("use", card.intended_use),
    ]  # fmt: skip
    return "\n".join(
        textwrap.fill(text, WIDTH, initial_indent=label.ljust(_LABEL), subsequent_indent=" " * _LABEL)
        for label, text in facts
    )


def dvc_hash(folder: Path) -> str:
    """Return the MD5 that DVC gives a folder: of its sorted list of files and their MD5s, with `.dir` behind it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = [{"md5": _md5(path.read_bytes()), "relpath": path.relative_to(folder).as_posix()} for path in files]
    return f"{_md5(json.dumps(entries, sort_keys=True).encode())}.dir"


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _flat(params: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """List nested parameters by their dotted names."""
    for key, value in params.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _read_lock(root: Path) -> dict[str, Any]:
    path = root / "dvc.lock"
    return yaml.safe_load(path.read_text("utf-8"))["stages"] if path.is_file() else {}


def _entry(lock: dict[str, Any], stage: str, kind: str, path: str) -> str | None:
    """Return the MD5 that dvc.lock holds for one path among a stage's `deps` or `outs`."""
    entries = lock.get(stage, {}).get(kind, [])
    return next((entry.get("md5") for entry in entries if entry["path"] == path), None)


def _commit(root: Path, lock: dict[str, Any], name: str, tree: str) -> str:
    """Name the commit whose dvc.lock brought these bytes in; say so where none of this history did."""
    if _entry(lock, f"train@{name}", "outs", f"models/{name}") != tree:
        return "none: dvc.lock in this folder is of another model of this name (`dvc status` says why), or of none"
    found = _git(root, "log", "-1", f"-S{tree}", "--format=%h, %as, %s", "--", "dvc.lock")
    if found is None:
        return "unknown: there is no git history here"
    if not found:
        return "none yet: dvc.lock holds this model, and that is not committed"
    shallow = _git(root, "rev-parse", "--is-shallow-repository") == "true"
    return f"{found} (put it into dvc.lock{'; or an earlier one, this clone has no full history' if shallow else ''})"


def _git(root: Path, *arguments: str) -> str | None:
    """Ask git; None where there is no repository, or no git."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _figures(root: Path, lock: dict[str, Any], name: str, tree: str) -> str:
    """Give the test figures, provided that they are of these bytes and no others."""
    path = Path("metrics") / name / "test.json"
    stage = f"evaluate@{name}"
    tested = _entry(lock, stage, "deps", f"models/{name}") == tree
    file = root / path
    if not (tested and file.is_file() and _entry(lock, stage, "outs", path.as_posix()) == _md5(file.read_bytes())):
        return f"no figures of exactly this model here. Run `dvc repro {stage}`."
    figures = ", ".join(f"{key} {value}" for key, value in read_json(file).items())
    details = read_json(file.with_name("details.json"))
    return f"{figures}; {details['images']} images of {details['cases']} cases"
