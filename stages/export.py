"""Write a model, or the mean of its folds, as .onnx file: `python stages/export.py --task binary --protocol case`."""

from pathlib import Path

from biopsy.core.errors import UnsuitableModelError, warn
from biopsy.core.files import atomic_dir, read_json
from biopsy.core.job import Job
from biopsy.core.layout import EXPORTED, EXPORTS
from biopsy.core.params import Params, read_params
from biopsy.core.sections.figures import Export
from biopsy.core.stage import run_stage, stage_arguments


def export(params: Params, task: str, protocol: str, root: Path = Path()) -> None:
    """Write `exports/<name>/` below `root`; without formats, or where ONNX cannot hold the model, an empty folder."""
    job = Job(task, protocol, root=root)
    with atomic_dir(root / EXPORTS / job.name) as folder:
        told = write(job, params.export, folder) if params.export.formats else []
    print(f"export {job.name}: {', '.join(told) or 'none'}")


def write(job: Job, wanted: Export, folder: Path) -> list[str]:
    """Write all formats of a model into `folder`; return the files, with how far probabilities are from Keras's."""
    from biopsy.serving.export.run import export_model
    from biopsy.serving.export.runtimes import export_as
    from biopsy.serving.onnx_metadata import kept_figures

    models, out = [job.model], folder / EXPORTED
    files = [job.metrics / f"{kind}.json" for kind in ("test", "details")]
    # Those of a cross-validation are of each fold's model alone, not of their mean.
    about = {"figures": kept_figures(*map(read_json, files)) if job.each == [job] else None}
    told = []
    for kind in sorted(wanted.formats, key=lambda kind: kind != "onnx"):
        try:
            if kind == "onnx":
                path, difference = export_model(models, out, job.root, about)
            elif kind == "int8":
                path, difference = export_model(
                    models, out.with_stem("model-int8"), job.root, about, int8=wanted.int8_loss
                )
            else:
                path, difference = export_as(kind, models, out, job.root)
        except UnsuitableModelError as error:
            warn(f"export {job.name}: no {kind}. {error}")
            if kind == "onnx":
                return []
            continue
        told.append(f"{path.name} ({difference:.1e} from Keras{', before int8' * (kind == 'int8')})")
    return told


def main() -> None:
    """Read parameters and arguments."""
    chosen = stage_arguments(__doc__, "task", "protocol")
    export(read_params(), chosen.task, chosen.protocol)


if __name__ == "__main__":
    run_stage(main)
