"""The report as the pipeline wrote it, with what a stage cannot write: the git revision that it is of, and its cost.

The commit of a run is made after `report` has ended, since it holds the dvc.lock that names the report. So the page
itself names files by their hashes; which commit records exactly this page is looked up when somebody prints it.
"""

from biopsy.core.cost import costs_of, read_costs
from biopsy.core.errors import DataError, ParamsError
from biopsy.evaluation.report.template import template
from biopsy.experiments.dvc_lock import md5_of, read_stages
from biopsy.experiments.model_info import dvc_hash
from biopsy.experiments.revisions import Revision
from biopsy.experiments.shell import output_or_none

STAGE, PATH = "report", "plots/report.html"


def print_report(shown: Revision, explain: bool = False) -> tuple[str, list[str]]:
    """Write the report of a run with its revision.

    Parameters
    ----------
    shown
        Whose report.
    explain
        Whether to add where its models look, which takes minutes. They and the images are those of the workspace.

    Returns
    -------
    tuple
        HTML that asks for no other file, and a sentence on the revision.

    Raises
    ------
    ParamsError
        `explain` for another run than the workspace.
    DataError
        There is no report of its parameters, or one of an earlier version.
    """
    if explain and shown.commit:
        raise ParamsError(
            f"--explain needs the models and images of the workspace. Run `git checkout {shown.name}` and `dvc "
            "checkout` first, and name no revision."
        )
    md5, content = shown.output(STAGE, PATH)
    says = _revision(shown, md5)
    made_of = md5_of(shown.stages, STAGE, "deps", "metrics")
    if shown.commit is None and made_of != dvc_hash(shown.root / "metrics"):
        says += f" The files of metrics/ have changed since it was made: run `dvc repro {STAGE}`."
    table = template("revision.html.j2", autoescape=True).render(says=says, files=_recorded(shown))
    page = _put(content.decode(), "revision", table, shown)
    if '<div id="costs">' in page:  # not in one of an earlier version
        costs = costs_of(page, read_costs(shown.root))
        page = _put(page, "costs", template("costs.html.j2", autoescape=True).render(costs=costs), shown)
    if explain:
        from biopsy.core.params import read_params
        from biopsy.evaluation.report.results import read_run
        from biopsy.experiments.explain_report import explain_run

        params = read_params(shown.root / "params.yaml")
        page = _put(page, "explained", explain_run(read_run(params, shown.root)), shown)
    return page, [says]


def _put(page: str, place: str, html: str, shown: Revision) -> str:
    """Put a piece in its place, which the report leaves for it."""
    before, start, rest = page.partition(f'<div id="{place}">')
    if not start:
        raise DataError(f"{shown.name}: {PATH} was made by an earlier version. Run `dvc repro {STAGE}`.")
    return f"{before}{start}{html}{rest[rest.index('</div>') :]}"


def _revision(shown: Revision, md5: str) -> str:
    """Say which commit records this report, as `git describe` calls it."""
    commit = shown.commit or "HEAD"
    name = output_or_none("git", "describe", "--always", "--long", "--tags", commit, cwd=shown.root)
    if name is None:
        return "Revision: not known, as there is no git history here."
    lock = output_or_none("git", "show", f"{commit}:./dvc.lock", cwd=shown.root)
    last = f"{name.strip()} ({output_or_none('git', 'log', '-1', '--format=%as', commit, cwd=shown.root) or ''}".strip()
    if md5_of(read_stages(lock or ""), STAGE, "outs", PATH) == md5:
        return f"Revision: {last}). Its dvc.lock records this report, MD5 {md5}."
    return f"Revision: none. The last commit, {last}), does not record this report, MD5 {md5}. Commit dvc.lock."


def _recorded(shown: Revision) -> list[tuple[str, str]]:
    """List path and MD5 of the code, the data and the models that dvc.lock records."""
    kept = ("biopsy/", "stages/", "data/", "models/", "dvc.yaml", "params.yaml")
    return sorted((path, md5) for path, md5 in shown.recorded.items() if path.startswith(kept))
