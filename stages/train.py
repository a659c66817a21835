"""Train one model, or one of each fold: `python stages/train.py --task binary --protocol case`."""

import shutil
from pathlib import Path
from statistics import median

from biopsy.core.code_digest import loaded_digest
from biopsy.core.cost import Meter
from biopsy.core.encoders import terms_of
from biopsy.core.files import atomic_dir, write_json
from biopsy.core.job import Job
from biopsy.core.outside import Outside, watch
from biopsy.core.owned import check_owned
from biopsy.core.params import Params, read_params
from biopsy.core.stage import run_stage, stage_arguments
from biopsy.networks.backend import gpu_names
from biopsy.networks.build import check_model
from biopsy.networks.model_file import read_card
from biopsy.sources.web.hub import fetch_weights
from biopsy.training.augment.pipeline import check_augment
from biopsy.training.calibration import calibrate_models
from biopsy.training.fit import check_engine, check_train
from biopsy.training.light_steps import choose_threads
from biopsy.training.train_model import FILES, mean_figures, train_model


def train(params: Params, task: str, protocol: str, root: Path = Path()) -> None:
    """Train the model, or those of all folds one after the other; write models, figures and curves below `root`."""
    job, meter = Job(task, protocol, params.seed, root), Meter(root)
    check_owned(job.model, [(each.within(Path()) / name).as_posix() for each in job.each for name in FILES])
    fetch_weights(params.model)
    backbone = check_model(params.model, params.resize.size)
    check_augment(params.augment)
    check_train(params.train)
    check_engine(params.train)
    choose_threads(backbone, params)
    code = loaded_digest(Path(__file__))  # now: somebody may edit the code while the images are read
    resumed = job.resume.exists()
    trained = [train_model(params, each, code) for each in job.each]
    calibrate_models(job.each, [one.evidence for one in trained])
    with atomic_dir(job.plots / "train") as plots:
        for each in job.each:
            each.within(plots).mkdir(exist_ok=True)
            for item in (each.resume / "live").iterdir():
                shutil.move(item, each.within(plots) / item.name)  # no second copy: the disk may be full
    figures = mean_figures([one.figures for one in trained])
    write_json(job.metrics / "train.json", figures)
    seconds = [second for one in trained for second in one.seconds]
    took = f"{median(seconds):.2f} s an epoch, " if seconds and params.model.head.kind != "probe" else ""
    cost = meter.end("train", job.name, [read_card(each.model).model_sha256 for each in job.each], gpu_names(), resumed)
    print(f"train {job.name}: {took}{cost.seconds:.0f} s in all, {cost.peak_mb} MB at most")
    if terms := terms_of(params.model.encoder.name):
        print(f"train {job.name}: {terms}")
    shutil.rmtree(job.resume, ignore_errors=True)
    if "folds" in figures:
        print(f"train {job.name}: {figures['folds']} folds, mean val_loss {figures['val_loss']:.3f}")


def main() -> None:
    """Read parameters and arguments."""
    chosen = stage_arguments(__doc__, "task", "protocol")
    params = read_params()
    weights = params.model.own_weights
    with watch("train", [Outside("model.weights", Path(params.model.weights))] if weights else []):
        train(params, chosen.task, chosen.protocol)


if __name__ == "__main__":
    run_stage(main, "the epochs that are done are kept. Run `dvc repro` again to continue after the last whole one.")
