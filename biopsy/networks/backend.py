"""The one door to TensorFlow and Keras: quiet, seeded, deterministic.

Other modules write `from biopsy.networks.backend import keras, tf`. Those that import only `keras` also run on its JAX
and PyTorch backends: `tf` is imported on first use, and is an error on another backend. TensorFlow prints a dozen lines
about compilers and missing CUDA drivers when it is imported; these are hidden.
"""

import gc
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from biopsy.core.errors import MachineError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Faster kernels. TensorFlow leaves them off without AVX-512, but with AVX2 a step also takes a third less.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of last batches that are smaller than the others

ON_TENSORFLOW = "Set train.backend to tensorflow, and unset KERAS_BACKEND."
_NOISE = re.compile(r"^(WARNING: All log messages|[IWE]0000|To enable the following|\s*$)")


@contextmanager
def _without_import_noise() -> Iterator[None]:
    """Hold back what C++ code writes to stderr; then pass on all but known noise."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines():
                if not _NOISE.match(line):
                    print(line, file=sys.stderr)


@contextmanager
def _without_unused() -> Iterator[None]:
    """Hide packages that Keras and TensorFlow import if they are installed, and that we do not need there.

    They take two fifths of the time of the import, in every process that trains or answers.
    """
    unused = {"matplotlib", "sklearn"} | ({"jax"} if os.environ["KERAS_BACKEND"] == "tensorflow" else set())
    hidden = unused - set(sys.modules)
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: "there is no such module"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Keep the garbage collector from searching a million permanent objects, during the import and later.

    The search takes a quarter of the time of the import.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


with _without_import_noise(), _without_unused(), _without_collecting():
    import keras

if keras.backend.backend() in ("jax", "torch"):
    # To save a model Keras imports TensorFlow if it is installed; there is no public way to prevent it.
    import_module("keras.src.utils.module_utils").tensorflow._available = False

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["gpu_names", "has_gpu", "keras", "libraries", "seed_everything", "tf"]


def __getattr__(name: str) -> Any:
    """Import TensorFlow as `tf` on demand."""
    if name != "tf":
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    if keras.backend.backend() in ("jax", "torch"):
        raise MachineError(f"this needs TensorFlow, and Keras runs on {keras.backend.backend()}. {ON_TENSORFLOW}")
    with _without_import_noise(), _without_unused(), _without_collecting():
        import tensorflow
    return tensorflow


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and Keras, use deterministic kernels, and restart the numbering of layer names.

    So two runs of one training on one machine give the same weights to the byte.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        __getattr__("tf").config.experimental.enable_op_determinism()


def libraries() -> dict[str, str]:
    """Return the versions of Keras and of what it runs on, by name: what figures may depend on."""
    engine = keras.backend.backend()
    found = __getattr__("tf") if engine == "tensorflow" else import_module(engine)
    return {"keras": keras.__version__, engine: found.__version__}


def gpu_names() -> list[str]:
    """Return the names of the accelerators that Keras finds."""
    if not has_gpu():
        return []
    engine = keras.backend.backend()
    if engine == "tensorflow":
        config = __getattr__("tf").config
        found = [config.experimental.get_device_details(gpu) for gpu in config.list_physical_devices("GPU")]
        return [str(about.get("device_name", "GPU")) for about in found]
    if engine == "jax":
        return [str(device.device_kind) for device in import_module("jax").local_devices()]
    cuda = import_module("torch").cuda
    return [str(cuda.get_device_name(i)) for i in range(cuda.device_count())]


def has_gpu() -> bool:
    """Say whether Keras finds an accelerator."""
    engine = keras.backend.backend()
    if engine == "tensorflow":
        return bool(__getattr__("tf").config.list_physical_devices("GPU"))
    if engine == "jax":
        return bool(import_module("jax").default_backend() != "cpu")
    return bool(import_module("torch").cuda.is_available())
