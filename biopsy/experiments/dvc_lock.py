"""What dvc.lock says about the bytes that a stage read and wrote."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from biopsy.core.errors import DataError, reason_of


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # libyaml's is ten times as fast
    """Reads what DVC writes, which is YAML 1.2: `1e-06` is a number."""


Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def read_stages(text: str | bytes) -> dict[str, Any]:
    """Return the stages of a dvc.lock by name; none of an empty text. Raises `DataError` where it is damaged."""
    try:
        stages = (yaml.load(text, Loader) or {}).get("stages", {})  # noqa: S506 (both are safe loaders)
        for entry in stages.values():
            if any(not isinstance(file["path"], str) for kind in ("deps", "outs") for file in entry.get(kind, [])):
                raise TypeError("a path that is not text")
            entry.get("params", {}).get("params.yaml", {}).items()  # else it is no mapping
        return stages
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"dvc.lock is damaged ({reason_of(error)}). Restore it with `git checkout dvc.lock`.") from None


def md5_of(stages: Mapping[str, Any], stage: str, kind: str, path: str) -> str | None:
    """Return the MD5 of one path among a stage's `deps` or `outs`; None where the stage or the path is not there."""
    entries = stages.get(stage, {}).get(kind, [])
    return next((entry.get("md5") for entry in entries if entry["path"] == path), None)


def is_fresh(stages: Mapping[str, Any], stage: str, params: Mapping[str, Any]) -> bool:
    """Say whether what `stage` wrote is the work of these parameters, all the way from the first stage on.

    Not so after `dvc repro train@binary-case` for the test figures, nor in a trial of `biopsy tune` for the models that
    it did not train: dvc.lock then still holds what an earlier run did. Stages of tasks and protocols that the
    parameters no longer list do not count: DVC keeps them in dvc.lock for good.
    """
    if stage not in stages:
        return False
    listed = {name: entry for name, entry in stages.items() if name == stage or _is_listed(name, params)}
    made = {out["path"]: (name, out.get("md5")) for name, entry in listed.items() for out in entry.get("outs", [])}
    above = {path: _with_parents(path) for path in made}
    waiting, before = [stage], {stage}  # stages to look at, and those and all that were: each once
    while waiting:
        entry = stages[waiting.pop()]
        used = entry.get("params", {}).get("params.yaml", {})
        if any(_value(params, key) != value for key, value in used.items()):
            return False
        read = {dep["path"]: dep.get("md5") for dep in entry.get("deps", [])}
        within = {folder for dep in read for folder in _with_parents(dep)}
        for path, (name, md5) in made.items():
            if path in within or not above[path].isdisjoint(read):
                if read.get(path, md5) != md5:
                    return False
                if name not in before:
                    before.add(name)
                    waiting.append(name)
    return True


def _is_listed(stage: str, params: Mapping[str, Any]) -> bool:
    """Say whether the parameters list a stage's task and protocol; so they do of a stage that has none."""
    kind, _, which = stage.partition("@")
    tasks, protocols = params.get("tasks") or (), params.get("protocols") or ()
    if kind == "stain":
        return which in protocols
    return kind not in ("train", "evaluate") or which in {f"{task}-{name}" for task in tasks for name in protocols}


def _with_parents(path: str) -> set[str]:
    """Return a path and the folders above it."""
    parts = path.split("/")
    return {"/".join(parts[:n]) for n in range(1, len(parts) + 1)}


def _value(params: Mapping[str, Any], key: str) -> Any:
    """Look a dotted name up; None where it is not there."""
    found: Any = params
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
