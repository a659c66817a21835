"""What dvc.lock says about the bytes that a stage read and wrote."""

from collections.abc import Mapping
from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml is


def read_stages(text: str | bytes) -> dict[str, Any]:
    """Return the stages of a dvc.lock by name; none of an empty text."""
    return (yaml.load(text, LOADER) or {}).get("stages", {})  # noqa: S506 (both are safe loaders)


def md5_of(stages: Mapping[str, Any], stage: str, kind: str, path: str) -> str | None:
    """Return the MD5 of one path among a stage's `deps` or `outs`; None where the stage or the path is not there."""
    entries = stages.get(stage, {}).get(kind, [])
    return next((entry.get("md5") for entry in entries if entry["path"] == path), None)


def was_tested(stages: Mapping[str, Any], model: str) -> bool:
    """Say whether stage `evaluate` read the bytes that stage `train` wrote, for a model such as `binary-case`.

    Not so after `dvc repro train@binary-case`, or in a trial of `biopsy tune`: the figures are then an older model's.
    """
    trained = md5_of(stages, f"train@{model}", "outs", f"models/{model}")
    return trained is not None and trained == md5_of(stages, f"evaluate@{model}", "deps", f"models/{model}")
