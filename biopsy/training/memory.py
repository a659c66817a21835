"""How much memory a training step takes, and how much there is: asked before the machine kills the process."""

import math
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from biopsy.core.errors import MachineError
from biopsy.networks.backend import has_gpu

# Measured: DenseNet121, 256 px, batch 16 peaks at 4.6 GB, the plain sum of its outputs is 4.2 GB.
GRADIENT_FACTOR = 1.1
EXHAUSTED = ("ResourceExhaustedError", "OutOfMemoryError")  # of TensorFlow and PyTorch; JAX says it in the message
NO_KERNEL = "could not create a primitive"  # oneDNN's words
OPTIMISER_COPIES = 4  # weights, gradients and the two moments of Adam


def step_bytes(model: Any, batch: int) -> int:
    """Estimate the memory of one training step, in bytes.

    Backpropagation keeps the output of every layer from the first trainable one on; before it, one at a time.

    Parameters
    ----------
    model
        A flat Keras model.
    batch
        Images in the step.
    """
    outputs = [_output_values(layer) for layer in model.layers]
    first = next((i for i, layer in enumerate(model.layers) if layer.trainable_weights), len(outputs))
    half = any("16" in layer.compute_dtype for layer in model.layers)
    kept = sum(outputs[first:]) * GRADIENT_FACTOR + 2 * max(outputs[:first], default=0)
    trainable = sum(math.prod(w.shape) for w in model.trainable_weights)
    return int(batch * kept * (2 if half else 4) + trainable * 4 * OPTIMISER_COPIES)


def _output_values(layer: Any) -> int:
    """Count the values that a layer gives for one image."""
    shapes = layer.output.shape if not isinstance(layer.output, list) else layer.output[0].shape
    return math.prod(side or 1 for side in shapes[1:])


def available_bytes() -> int:
    """Return how much memory this process may still take: the machine's, its control group's, its limit's."""
    process = psutil.Process().memory_info()
    limits = [psutil.virtual_memory().available]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft - process.vms)
    group = Path("/sys/fs/cgroup/memory.max")
    if group.is_file() and (text := group.read_text().strip()).isdigit():
        limits.append(int(text) - process.rss)
    return max(0, min(limits))


def check_batch(model: Any, batch: int) -> None:
    """Reject a batch that the memory cannot hold.

    Raises
    ------
    MachineError
        Names the batch that would fit, and how to keep the step alike with it. On a GPU, whose memory is not the
        machine's, nothing is checked here: `out_of_memory` answers there.
    """
    if has_gpu():
        return
    free = available_bytes()
    if step_bytes(model, batch) > free:
        raise out_of_memory(model, batch, free)


def out_of_memory(model: Any, batch: int, free: int) -> MachineError:
    """Make the error for a step that does not fit into `free` bytes."""
    sides = [tensor.shape[1] for tensor in model.inputs if len(tensor.shape) == 4 and tensor.shape[-1] == 3]
    size = f" of {sides[0]} px" if sides else ""  # a head on stored features sees no pixels
    fits = batch
    while fits > 1 and step_bytes(model, fits) > free * 0.9:
        fits //= 2
    fits = min(fits, max(1, batch // 2))
    return MachineError(
        f"train.batch: {batch} images{size} need about "
        f"{step_bytes(model, batch) / 1e9:.1f} GB and {free / 1e9:.1f} GB are free. train.batch={fits} would fit; "
        f"with train.accumulate={math.ceil(batch / fits)} each step still sees as many images."
    )


@contextmanager
def limits_in_words(model: Any, batch: int) -> Iterator[None]:
    """Put in words that memory is exhausted, in each engine of Keras's, or that the processor lacks a kernel.

    Raises
    ------
    MachineError
    """
    try:
        yield
    except Exception as error:
        if type(error).__name__ in EXHAUSTED or "RESOURCE_EXHAUSTED" in str(error):
            raise out_of_memory(model, batch, available_bytes()) from None
        if NO_KERNEL in str(error):
            isa = os.environ.get("ONEDNN_MAX_CPU_ISA")
            limited, unset = (
                (f", limited by ONEDNN_MAX_CPU_ISA={isa},", " or unset ONEDNN_MAX_CPU_ISA") if isa else ("", "")
            )
            raise MachineError(
                f"this processor{limited} cannot compute in {model.dtype_policy.name}. "
                f"Set train.precision to float32{unset}."
            ) from None
        raise
