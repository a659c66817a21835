"""What a git revision, an experiment or the workspace holds: parameters, dvc.lock, and predictions from DVC's cache."""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from biopsy.core.errors import DataError, ParamsError, nearest, reason_of, some
from biopsy.core.files import parse_json
from biopsy.core.layout import PREDICTIONS
from biopsy.core.protocol import Protocol, parse_protocol
from biopsy.core.text import count, plain
from biopsy.experiments.dvc_lock import Loader, is_fresh, md5_of, read_stages
from biopsy.experiments.shell import output, output_or_none

if TYPE_CHECKING:
    import pandas as pd

WORKSPACE = (".", "workspace")
EXPERIMENTS = "refs/exps/??/*/*"  # DVC's: the baseline's hash in two parts, then the name


@dataclass(frozen=True)
class Revision:
    """One side of a comparison.

    Attributes
    ----------
    name
        As the user gave it.
    commit
        Its hash; None: the workspace.
    root
        The project's folder.
    experiment
        Whether DVC keeps it as an experiment.
    """

    name: str
    commit: str | None
    root: Path
    experiment: bool = False

    @cached_property
    def params(self) -> Mapping[str, Any]:
        """params.yaml as it stood. Raises `DataError` where there is none that can be read."""
        try:
            found = yaml.load(self._text("params.yaml"), Loader)  # noqa: S506 (a safe loader)
        except (yaml.YAMLError, RecursionError) as error:
            raise DataError(f"{self.name}: params.yaml cannot be read: {reason_of(error)}.") from None
        listed = [found.get(key) if isinstance(found, dict) else None for key in ("tasks", "protocols")]
        if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in listed):
            raise DataError(
                f"{self.name}: params.yaml lists no tasks and protocols, so this is not a run of this pipeline."
            )
        return found

    @cached_property
    def stages(self) -> dict[str, Any]:
        """The stages of its dvc.lock."""
        return read_stages(self._text("dvc.lock"))

    @property
    def recorded(self) -> dict[str, str]:
        """The MD5 of each path that its dvc.lock records; what a stage wrote counts before what another read."""
        found: dict[str, str] = {}
        for kind in ("deps", "outs"):
            for stage in self.stages.values():
                found |= {entry["path"]: str(entry.get("md5", "-")) for entry in stage.get(kind, [])}
        return found

    @property
    def models(self) -> list[tuple[str, str]]:
        """(task, protocol) of each model that its parameters name."""
        return [(task, protocol) for task in self.params["tasks"] for protocol in self.params["protocols"]]

    def positive(self, task: str, classes: Sequence[str]) -> list[str]:
        """Name those of `classes` that are positive; params.yaml may spell them otherwise, such as True for TRUE."""
        tasks = (self.params.get("labels") or {}).get("tasks") or {}
        named = (tasks.get(task) or {}).get("positive") or []
        by_plain = {plain(name): name for name in classes} | {name: name for name in classes}
        found = {by_plain.get(str(name), by_plain.get(plain(str(name)))) for name in named}
        return [name for name in classes if name in found]

    def predictions(self, task: str, protocol: str, ending: str) -> "tuple[str, pd.DataFrame]":
        """Read the predictions of one model.

        Parameters
        ----------
        task, protocol
            Which model.
        ending
            '-val' for those of the validation part, '' for the test part or all folds.

        Returns
        -------
        tuple
            The file's MD5 and the table.

        Raises
        ------
        DataError
            They were not made with its parameters, are not here, or are damaged.
        """
        from biopsy.evaluation.pairing import read_predictions  # half a second, which a report need not spend

        model = f"{task}-{protocol}"
        path = (PREDICTIONS / f"{model}{ending}.csv").as_posix()
        md5, content = self.output(f"evaluate@{model}", path)
        table = read_predictions(BytesIO(content), f"{self.name}: {path}")
        expected = {fold.name for fold in protocol_of(protocol).folds}
        found = set(table["fold"]) if "fold" in table else set()
        if found != expected:
            raise DataError(
                f"{self.name}: {path} holds {_folds(found)}, and protocol {protocol} has {_folds(expected)}. Make it "
                f"again with `dvc repro evaluate@{model}`."
            )
        return md5, table

    def output(self, stage: str, path: str, cached: bool = True) -> tuple[str, bytes]:
        """Read a file that a stage wrote with its parameters.

        Parameters
        ----------
        stage, path
            As dvc.lock calls them.
        cached
            Whether DVC keeps it; False: git does.

        Returns
        -------
        tuple
            Its MD5 and its bytes.

        Raises
        ------
        DataError
            It was not made with these parameters, is not here, or is damaged.
        """
        md5 = md5_of(self.stages, stage, "outs", path)
        again = f"`dvc repro {stage}`" if self.commit is None else f"`dvc repro {stage}` there and commit dvc.lock"
        if md5 is None:
            raise DataError(f"{self.name} has no {path}: its dvc.lock does not name it. Run {again}.")
        if not is_fresh(self.stages, stage, self.params):
            raise DataError(f"{self.name}: {path} was made with other parameters than its params.yaml. Run {again}.")
        if not cached and self.commit is not None:
            content, damaged = self._text(path).encode(), f"{self.name}: {path} is not what its dvc.lock records."
        else:
            file = self.root / path if self.commit is None else self._cached(md5)
            if not file.is_file():
                raise DataError(f"{self.name}: {path} is not on this machine. {self._fetch(stage)}")
            content, damaged = file.read_bytes(), f"{path} is not what dvc.lock records. Run {again}."
            if self.commit is not None:
                damaged = f"{self.name}: {file} in DVC's cache is damaged. Delete it. {self._fetch(stage)}"
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise DataError(damaged)
        return md5, content

    def details(self, task: str, protocol: str) -> dict[str, Any]:
        """Read the figures of one model's test part, metrics/<model>/details.json. Raises `DataError` as `output`."""
        from biopsy.evaluation.records import Summary, fitting

        model = f"{task}-{protocol}"
        path = f"metrics/{model}/details.json"
        content = self.output(f"evaluate@{model}", path, cached=False)[1]
        name = f"{self.name}: {path}"
        return fitting(parse_json(content, name, {}), Summary, name)

    @cached_property
    def about(self) -> str:
        """Its commit in a line: hash, date, subject; of the workspace, the commit that it stands on."""
        found = output_or_none("git", "log", "-1", "--format=%h, %as, %s", self.commit or "HEAD", cwd=self.root)
        line = re.sub(r"\b([0-9a-f]{7})[0-9a-f]{33,}\b", r"\1", (found or "no commit").strip())  # of an experiment
        return line if self.commit else f"the files as they are, on {line}"

    def _fetch(self, stage: str) -> str:
        if self.commit is None:
            return f"Run `dvc pull {stage}`, or `dvc repro {stage}`."
        if self.experiment:
            return f"Run `dvc exp apply {self.name}` and `dvc pull`, or `dvc repro {stage}`."
        return f"Run `dvc fetch --all-commits`; if no remote has it, check out {self.name} and run `dvc repro`."

    def _cached(self, md5: str) -> Path:
        usual = self.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]  # its bytes are checked, wherever they lie
        return usual if usual.is_file() else _cache(self.root.resolve()) / md5[:2] / md5[2:]

    def _text(self, path: str) -> str:
        if self.commit is None:
            file = self.root / path
            if file.is_file():
                return file.read_text("utf-8", "replace")
        else:
            found = output_or_none("git", "show", f"{self.commit}:./{path}", cwd=self.root)
            if found is not None:
                return found
        again = "git checkout params.yaml" if path == "params.yaml" else "dvc repro"
        way_out = "Name a revision that has a run" if self.commit else f"Run `{again}`, or name the project with --root"
        raise DataError(f"{self.name} has no {path}. {way_out}.")


def _folds(names: Collection[str]) -> str:
    return f"{count(len(names), 'fold')} ({some(sorted(names))})" if names else "no folds"


def protocol_of(name: str) -> Protocol:
    """Take the name of a protocol in a params.yaml apart. Raises `DataError` where this version knows none such."""
    try:
        return parse_protocol(name)
    except ValueError as error:
        raise DataError(f"params.yaml: protocols: {error}. Name another with --protocol.") from None


@cache
def _cache(root: Path) -> Path:
    """Ask DVC where its cache lies; it takes a second."""
    return root / output("dvc", "cache", "dir", cwd=root).strip() / "files/md5"


def find_revision(name: str, root: Path = Path()) -> Revision:
    """Find a commit, branch or tag, else an experiment, by its name; '.' and 'workspace' are the files as they are.

    Raises
    ------
    ParamsError
        There is none of that name (names the nearest), or several experiments have it.
    """
    if name in WORKSPACE:
        return Revision("workspace", None, root)
    output("git", "rev-parse", "--git-dir", cwd=root)
    spelt = name and not name.startswith("-")
    commit = (
        output_or_none("git", "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", cwd=root) if spelt else None
    )
    if commit:
        return Revision(name, commit.strip(), root)
    listed = [
        line.split()
        for line in output(
            "git", "for-each-ref", "--format=%(objectname) %(refname)", EXPERIMENTS, cwd=root
        ).splitlines()
    ]
    experiments = [(ref.split("/")[-1], commit) for commit, ref in listed]
    found = sorted({commit for other, commit in experiments if other == name})
    if len(found) > 1:
        raise ParamsError(
            f"{len(found)} experiments are called '{name}'. Name a commit: {some(c[:10] for c in found)}."
        )
    if found:
        return Revision(name, found[0], root, experiment=True)
    branches = output(
        "git", "for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes", cwd=root
    ).split()
    known = ["workspace", *branches, *(other for other, _ in experiments)]
    hint = nearest(name, known) or f" There are {some(known, 10)}."
    raise ParamsError(f"there is no revision or experiment '{name}'.{hint}")
