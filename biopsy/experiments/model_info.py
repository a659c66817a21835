"""What a trained model is, where it comes from and how well it did, as text for the terminal: `biopsy info`."""

import hashlib
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from biopsy.core.errors import SourceError
from biopsy.core.layout import is_fold
from biopsy.experiments.dvc_lock import md5_of, read_stages
from biopsy.experiments.kinds import with_kind
from biopsy.experiments.results import FIGURES, WIDTH, lacking
from biopsy.experiments.runs import settings
from biopsy.experiments.shell import output_or_none
from biopsy.networks.answers import TURNS
from biopsy.networks.model_file import Card, check_bytes, read_card
from biopsy.serving.onnx_file import open_file
from biopsy.serving.onnx_metadata import kept_figures

_LABEL = 14


def describe_model(folder: Path, root: Path = Path()) -> str:
    """Put a model's card, its origin and its test figures in words, once its bytes are checked.

    Parameters
    ----------
    folder
        Holds `model.keras` and `model.json`; inside the project or fetched from it by `dvc get`. Or the .onnx file of
        `biopsy export`, which says all of this itself.
    root
        The project: its `dvc.lock`, metrics and git history say where the model comes from.

    Returns
    -------
    str
        Lines of at most 100 columns.

    Raises
    ------
    SourceError
        No such folder, a file is missing, or `model.keras` is not the one that `model.json` describes.
    """
    if folder.suffix.lower() == ".onnx":
        return _describe_exported(folder)
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a model's folder. Name one such as models/binary-case, or an .onnx file.")
    card = check_bytes(folder)
    name = f"{card.task}-{card.protocol}"
    tree = _tree(folder, card)
    origin, commit = _origin(root, name, tree)
    file = f"{name}, model.keras SHA-256 {card.model_sha256}{f'; fold {card.fold}' if card.fold else ''}"
    told = _figures(root, commit, name, tree)
    return _in_lines(card, file, origin, f"the folds together: {told}" if card.fold else told)


def _describe_exported(path: Path) -> str:
    """Put an .onnx file in words. Raises `SourceError`."""
    content, facts, card = open_file(path)
    file = f"{card.task}-{card.protocol}, {path.name} SHA-256 {hashlib.sha256(content).hexdigest()}"
    if card.fold:
        file += f"; fold {card.fold}"
    if card.members:
        file += f"; the mean of {len(card.members)} models"
    try:
        figures = json.loads(facts.get("figures", "null"))
        told = _figures_in_words(figures["test"], figures) if figures else "none are known to this file"
        if int8 := json.loads(facts.get("int8", "null")):
            told = f"none as int8. Of {int8['validation_images']} validation images: " + ", ".join(
                f"{key} {value:.3f} (floats {int8['figures_of_floats'][key]:.3f})"
                for key, value in int8["figures"].items()
                if value is not None
            )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise SourceError(
            f"{path} was made by another version of Biopsy: its figures differ. Export it again."
        ) from None
    return _in_lines(card, file, facts.get("revision") or "not known to this file", told)


def _in_lines(card: Card, file: str, origin: str, figures: str) -> str:
    """Write what is told of every model."""
    output = "probability of " + card.classes[1] if len(card.classes) == 2 else "one probability a class"
    data = "; ".join(f"{part} {digest[:12]}" for part, digest in card.data.items())
    facts = [
        ("model", file),
        ("protocol", with_kind(card.protocol)),
        ("classes", f"{', '.join(card.classes)}; output: {output}"),
        ("input", _input(card)),
        ("threshold", f"{card.threshold:g}"),
        ("data", f"{'synthetic sample; ' if card.synthetic else ''}SHA-256 of {data}"),
        ("commit", origin),
        ("test", figures),
        ("parameters", ", ".join(settings(card.params))),
        ("use", " ".join([card.intended_use, card.terms]).strip()),
    ]  # fmt: skip
    return "\n".join(
        textwrap.fill(
            text, WIDTH, initial_indent=label.ljust(_LABEL), subsequent_indent=" " * _LABEL, break_on_hyphens=False
        )
        for label, text in facts
    )


def _input(card: Card) -> str:
    """Say what the model takes, and what is done to an image for it."""
    preparation, size = card.preparation, card.preparation.size
    steps = [f"{preparation.views} tiles" if preparation.views > 1 else preparation.resize.mode]
    steps += [preparation.resize.structure] if preparation.resize.structure != "rgb" else []
    steps += [f"stain by {preparation.stain.method}"] if preparation.stain else []
    steps += [f"answers averaged over {TURNS[card.tta]} flips and turns"] if card.tta != "none" else []
    inside = f"prepared inside the model: {card.preprocessing}"
    return f"{size}x{size} pixels, RGB, 0 to 255 ({', '.join(steps)}); {inside}"


def dvc_hash(folder: Path) -> str:
    """Return the MD5 that DVC gives a folder: of its sorted list of files and their MD5s, with `.dir` behind it."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    # In the order of the texts, in which `case-cv5/x` stands before `case/x`.
    entries = [{"md5": _md5(path.read_bytes()), "relpath": name} for name, path in sorted(files.items())]
    return f"{_md5(json.dumps(entries, sort_keys=True).encode())}.dir"


def _tree(folder: Path, card: Card) -> str:
    """Return `dvc_hash` of what DVC keeps as one: a model's folder, or that of all folds."""
    folds = folder.resolve().parent
    together = card.fold and all(is_fold(path) for path in folds.iterdir())  # else it was copied alone
    return dvc_hash(folds if together else folder)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _origin(root: Path, name: str, tree: str) -> tuple[str, str | None]:
    """Say which commit first put these bytes into dvc.lock; also return it, None where no commit did."""
    if output_or_none("git", "rev-parse", "--git-dir", cwd=root) is None:
        return "unknown: there is no git history here", None
    found = output_or_none(
        "git", "log", "--all", "--reverse", f"-S{tree}", "--format=%h, %as, %s", "--", "dvc.lock", cwd=root
    )
    if not found:
        return "none: no dvc.lock of this history holds this model", None
    first = found.splitlines()[0]
    notes = ["the first whose dvc.lock holds this model"]
    if output_or_none("git", "rev-parse", "--is-shallow-repository", cwd=root) == "true\n":
        notes.append("or an earlier one: this clone has no full history")
    if md5_of(_read_lock(root, None), f"train@{name}", "outs", f"models/{name}") != tree:
        notes.append("the dvc.lock here holds another")
    return f"{first} ({'; '.join(notes)})", first.split(",")[0]


def figures_of(folder: Path, root: Path = Path()) -> dict[str, Any] | None:
    """Return the test figures of exactly these bytes, with their intervals and counts; None if it has none."""
    card = read_card(folder)
    if card.fold:  # those of the folds together are not its own
        return None
    name, tree = f"{card.task}-{card.protocol}", dvc_hash(folder)
    figures, details = _tested(root, _origin(root, name, tree)[1], name, tree)
    return kept_figures(figures, details)


def known_of(folder: Path) -> dict[str, Any]:
    """Return what goes with a model into its exported file: its test `figures`, and the `revision` it comes from."""
    card = read_card(folder)
    return {
        "figures": figures_of(folder),
        "revision": _origin(Path(), f"{card.task}-{card.protocol}", _tree(folder, card))[1],
    }


def _figures(root: Path, commit: str | None, name: str, tree: str) -> str:
    """Put the test figures in words."""
    figures, details = _tested(root, commit, name, tree)
    if not figures:
        return f"no figures of exactly this model here. Run `dvc repro evaluate@{name}`."
    return _figures_in_words(figures, details)


def _figures_in_words(figures: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    counts = f"; {details['images']} images of {details['cases']} cases" if details else ""
    keys = [*(key for key in FIGURES if key in figures), *(key for key in figures if key not in FIGURES)]
    told = ", ".join(f"{key} {'-' if figures[key] is None else figures[key]}" for key in keys)
    return "; ".join([told + counts, *lacking(details)])


def _tested(root: Path, commit: str | None, name: str, tree: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the figures and their details, of the workspace or else of the commit, provided they are of these bytes."""
    stage, (path, details) = f"evaluate@{name}", (f"metrics/{name}/{kind}.json" for kind in ("test", "details"))
    for revision in dict.fromkeys((None, commit)):
        lock, content = _read_lock(root, revision), _read(root, revision, path)
        tested = md5_of(lock, stage, "deps", f"models/{name}") == tree
        if tested and content is not None and md5_of(lock, stage, "outs", path) == _md5(content):
            more = _read(root, revision, details) or b""
            whole = md5_of(lock, stage, "outs", details) == _md5(more)
            return json.loads(content), json.loads(more) if whole else {}
    return {}, {}


def _read_lock(root: Path, revision: str | None) -> dict[str, Any]:
    return read_stages(_read(root, revision, "dvc.lock") or b"")


def _read(root: Path, revision: str | None, path: str) -> bytes | None:
    """Read a file of the workspace, or of a commit; None where there is none."""
    if revision is None:
        return (root / path).read_bytes() if (root / path).is_file() else None
    content = output_or_none("git", "show", f"{revision}:./{path}", cwd=root)
    return None if content is None else content.encode()
