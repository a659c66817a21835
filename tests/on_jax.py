"""What the tests of `train.backend: jax` ask for, in one process that must never import TensorFlow; prints JSON.

`python on_jax.py` in a folder where `tiny.make_project` and params.yaml stand, and a link to stages/. With the argument
`torch`, what those of `train.backend: torch` ask for.
"""

import json
import os
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import two_devices

JAX = {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0",  # it compiles sooner
    "JAX_COMPILATION_CACHE_DIR": ".jax",  # three trainings compile the same steps
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
FOLDERS = ("models/multiclass-case", "metrics/multiclass-case", "plots/multiclass-case")


def train() -> int:
    """Run the stage as `dvc repro` does, to its end or until it is stopped; return its exit status."""
    sys.argv = ["stage", "train", "--task", "multiclass", "--protocol", "case"]
    try:
        runpy.run_module("biopsy.core.stage", run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def outputs() -> dict[str, bytes]:
    """Take away what the stage has left."""
    found = {str(p): p.read_bytes() for f in FOLDERS for p in sorted(Path(f).rglob("[!.]*")) if p.is_file()}
    for folder in FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def stop_after(epochs: int) -> Any:
    """Let trainings stop once that many epochs are saved; return what undoes it."""
    from biopsy.training.resume import TrainingState

    usual = TrainingState.on_epoch_end

    def on_epoch_end(self: Any, epoch: int, logs: Any = None) -> None:
        usual(self, epoch, logs)
        if epoch + 1 == epochs:
            raise KeyboardInterrupt

    TrainingState.on_epoch_end = on_epoch_end  # type: ignore[method-assign]
    return lambda: setattr(TrainingState, "on_epoch_end", usual)


def answers() -> list[list[float]]:
    """What the model says of some noise."""
    import numpy as np

    from biopsy.networks.model_file import load_model

    noise = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.float32)
    given: list[list[float]] = load_model(Path(FOLDERS[0]))[0].predict_on_batch(noise).tolist()
    return given


def looks() -> list[list[list[float]]]:
    """Where a network of known weights looks in some noise, by its gradient."""
    import numpy as np

    from biopsy.core.sections.model import Features, Head, Model
    from biopsy.networks.build import build_model
    from biopsy.serving.explain.gradcam import gradcam

    settings = Model(features=Features(layers=["block1_relu", "block2_relu"]), head=Head(feature_norm=False))
    network, rng = build_model(settings, 32, 8), np.random.default_rng(0)
    network.set_weights([rng.uniform(-0.3, 0.3, w.shape) ** 2 for w in network.get_weights()])
    given: list[list[list[float]]] = gradcam(network, rng.integers(0, 256, (1, 32, 32, 3), np.uint8), 5).tolist()
    return given


def main() -> None:
    jax = sys.argv[1:] != ["torch"]
    os.environ |= JAX if jax else {}  # before JAX is imported
    status = [train()]
    told: dict[str, Any] = {"answers": answers(), "looks": looks()}
    shutil.copytree(FOLDERS[0], "kept")
    whole, go_on = outputs(), stop_after(2)
    status.append(train())
    go_on()
    status.append(train())
    resumed = outputs()
    told["differ"] = sorted(name for name in whole.keys() | resumed if whole.get(name) != resumed.get(name))
    told |= {"status": status, "files": len(whole)}
    if jax:
        told["shared"] = two_devices.compare()
        gpu = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks/gpu.py"))
        told["gpu"] = gpu["row"]("jax", gpu["on_jax"]("tiny", 32, 4, 2, 1), 4)
    told["tensorflow"] = [name for name in sys.modules if name.split(".")[0] == "tensorflow"]
    print(json.dumps(told))


if __name__ == "__main__":
    main()
