"""Train one task under one protocol: `python stages/train.py --task binary --protocol case`."""

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from biopsy.core.code_digest import loaded_digest
from biopsy.core.errors import DataError
from biopsy.core.files import atomic_dir, read_json, sha256, write_json
from biopsy.core.outside import Outside, watch
from biopsy.core.owned import check_owned, note_made
from biopsy.core.params import Params, read_params
from biopsy.core.stage import run_stage
from biopsy.images.preparation.record import Preparation, images_of
from biopsy.networks.backbones.registry import find
from biopsy.networks.backend import keras, seed_everything, tf
from biopsy.networks.build import build_model, check_model, count_weights
from biopsy.networks.model_file import Card, save_model
from biopsy.tables.labels.scheme import LabelScheme, read_scheme
from biopsy.tables.slides.extra_inputs import Encoder, encode_extra
from biopsy.tables.split.parts import cases_of, hash_images, read_parts
from biopsy.training.augment.pipeline import check_augment
from biopsy.training.contact_sheet import write_sheet
from biopsy.training.fit import check_train, fit
from biopsy.training.inputs.loader import ImageStore
from biopsy.training.memory import peak_mb
from biopsy.training.plots import plot_curves
from biopsy.training.probing import fit_head
from biopsy.training.progress import still_improving

LABELS = Path("data/interim/labels.csv")


def train(params: Params, task: str, protocol: str, root: Path = Path()) -> None:
    """Train, and write the model, its card, its figures and its curves below `root`."""
    name = f"{task}-{protocol}"
    check_model(params.model, params.resize.size)
    check_augment(params.augment)
    check_train(params.train)
    folder = root / "models" / name
    check_owned(folder, edits=False)
    seed_everything(params.seed)
    code = loaded_digest(Path(__file__))  # now, before the minutes of reading in which somebody may edit it
    split, resume = root / "data/splits" / f"{protocol}.csv", root / "models/.resume" / name
    tree, preparation = images_of(root, protocol)
    if preparation.resize != params.resize:
        found = preparation.differences(preparation.model_copy(update={"resize": params.resize}))
        raise DataError(f"{tree} was made with other parameters ({found}). Run `dvc repro`.")
    scheme = read_scheme(root / "models/labels.json")
    table = read_parts(root / LABELS, split, tree, task, scheme[task].names)
    encoder, extra = encode_extra(table, params.model.extra_inputs, root / "data/raw/slides.csv")
    test = list(table.loc[table["part"] == "test", "file"])
    used = np.concatenate([np.flatnonzero(table["part"] == part) for part in ("train", "val")])
    table, extra = table.iloc[used], None if extra is None else extra[used]
    n_train = int((table["part"] == "train").sum())
    size, views = preparation.size, preparation.views
    store = ImageStore.read(list(table["file"]), size, params.train.cache_mb, resume / "images.npy", views)
    seen = {"pixels": store.array, "extra": extra}
    data = {what: hashlib.sha256(np.ascontiguousarray(a).data).hexdigest() for what, a in seen.items() if a is not None}
    data["test_pixels"] = hash_images(test, size, views)  # `evaluate` asks for them; nothing is learnt from a hash
    card = describe(params, task, protocol, scheme, root, preparation, encoder, data)
    classes = len(card.classes)
    keras.config.set_dtype_policy(params.train.precision)
    together = views if params.model.tiles == "mean" else 1
    model = build_model(params.model, size, classes, extra=encoder.width if encoder else 0, tiles=together)
    live, targets = resume / "live", table["target"].to_numpy()  # a training that fails costs nobody earlier plots
    title, shown, each = f"{name}, first epochs", np.repeat(targets[:n_train], views), views // together
    write_sheet(store, shown, params, task, card.classes, title, live / "augment.png")
    store = store if together == 1 else store.together(together)
    extra = None if extra is None else np.repeat(extra, each, axis=0)
    learn: Callable[..., Any] = fit
    if params.model.head.kind == "probe":
        learn = partial(fit_head, cases=np.repeat(cases_of(table[:n_train]), each))
    state = learn(
        model, params, task, store, np.repeat(targets, each), n_train * each,
        title=name, state_file=resume / "state.npz", fingerprint=fingerprint(card, code), live_dir=live, extra=extra,
    )  # fmt: skip
    plot_curves(state.history, f"{name}, {n_train} training images", live / "curves.png")
    folder.mkdir(parents=True, exist_ok=True)
    note_made(folder, ["model.keras", "model.json"])
    save_model(model, folder, card)
    with atomic_dir(root / "plots" / name / "train") as plots:
        for item in live.iterdir():
            shutil.move(item, plots / item.name)  # no second copy: the disk may be full
    losses = [figures["val_loss"] for figures in state.history]
    best, unfinished = losses.index(min(losses)), still_improving(losses, params.train.epochs_of(task))
    write_json(
        root / "metrics" / name / "train.json",
        {"epochs": state.epoch, "best_epoch": best + 1, "train_images": n_train, "val_images": len(table) - n_train}
        | {"still_improving": unfinished}
        | dict(zip(("weights", "trainable"), count_weights(model), strict=True))
        | {key: round(value, 6) for key, value in state.history[best].items()},
    )
    if "DVC_EXP_NAME" in os.environ:  # not for `dvc repro`: no two runs cost the same, and git would see a change
        cost = {"seconds_per_epoch": round(median(state.seconds), 3) if state.seconds else None, "peak_mb": peak_mb()}
        write_json(root / "metrics" / name / "cost.json", cost)
    shutil.rmtree(resume, ignore_errors=True)
    print(f"train {name}: {state.epoch} epochs, kept epoch {best + 1}, val_loss {losses[best]:.3f}")
    if unfinished:
        print(f"train {name}: still improving when its epochs ran out. Raise train.epochs to train it further.")


def describe(
    params: Params, task: str, protocol: str, scheme: LabelScheme, root: Path, preparation: Preparation,
    encoder: Encoder | None, data: dict[str, str],
) -> Card:  # fmt: skip
    """Make the model's card: all that the training depends on; `data` holds the hashes of what was read."""
    chosen = params.model_dump(include={"seed", "resize", "model", "augment", "train"})
    chosen["train"]["epochs"] = params.train.epochs_of(task)
    del chosen["train"]["cache_mb"]  # it says where the images wait, and changes no result
    weights = Path(params.model.weights)
    return Card(
        task=task,
        protocol=protocol,
        labels=scheme,
        preparation=preparation,
        preprocessing=find(params.model.backbone).preprocessing,
        extra_inputs=encoder,
        threshold=0.5,
        synthetic=read_json(root / "data/raw/source.json", {"synthetic": bool})["synthetic"],
        backbone_weights_sha256=sha256(weights) if weights.is_file() else None,
        data={
            "labels": sha256(root / LABELS),
            "split": sha256(root / "data/splits" / f"{protocol}.csv"),
        }
        | data,
        params=chosen,
        keras=keras.__version__,
    )


def fingerprint(card: Card, code: str) -> str:
    """Name a training: equal for equal parameters, data, code and libraries."""
    content: dict[str, Any] = card.model_dump(mode="json") | {"tensorflow": tf.__version__, "code": code}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def main() -> None:
    """Read parameters and arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", required=True)
    parser.add_argument("--protocol", required=True)
    chosen = parser.parse_args()
    params = read_params()
    weights = params.model.weights
    with watch("train", [] if weights in ("none", "imagenet") else [Outside("model.weights", Path(weights))]):
        train(params, chosen.task, chosen.protocol)


if __name__ == "__main__":
    run_stage(main, "the epochs that are done are kept. Run `dvc repro` again to go on after the last whole one.")
