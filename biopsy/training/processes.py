"""`train.workers`: one training in several processes, each of which feeds its part of every batch.

They bring the resumable state to its end, as a single process does; the stage's own process then restores it, and is
the only one that writes a model. What is imported here must not import Keras: a process has to be told of its backend.
"""

import math
import os
import signal
import socket
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from biopsy.core.engine import open_engine
from biopsy.core.errors import BiopsyError, MachineError, reason_of
from biopsy.core.extras import extra
from biopsy.core.locks import stop_with_parent
from biopsy.training.inputs.place import HERE

RETRIES = 3  # of a group on a cluster that lost one of its processes
GO_ON = "The epochs that are done are kept. Run `dvc repro` again to go on after the last whole one."


@dataclass(frozen=True)
class Work:
    """What a process needs to take part: the project's folder, a model, the images' file, and what `fit` is given."""

    project: Path
    model: Path
    images: Path
    shape: tuple[int, ...]
    rows: np.ndarray
    given: dict[str, Any]

    @property
    def count(self) -> int:
        """How many processes take part."""
        return int(self.given["params"].train.workers)


def fit_on_workers(
    model: Any, params: Any, task: str, store: Any, targets: np.ndarray, n_train: int, **more: Any
) -> Any:
    """Train as `fit` does, in `train.workers` processes; arguments and result are those of `fit`.

    Each batch is that of one process, and so are the weights, within rounding. `store` lies in a file.

    Raises
    ------
    MachineError
        A process was killed, Ray is missing, or this machine has a GPU, which `train.devices: all` shares.
    BiopsyError
        What `fit` raises.
    """
    from biopsy.networks.backend import has_gpu
    from biopsy.training.fit import fit

    if has_gpu() and params.data.engine == "local":
        raise MachineError(
            f"train.workers is {params.train.workers}, which starts processes on this machine's processor, and it has "
            "a GPU. Set train.workers to 1 and train.devices to all, or data.engine to ray."
        )
    if not isinstance(store.array, np.memmap) or store.array.filename is None:  # `decode_once` has said why
        raise MachineError(f"train.workers is {params.train.workers}, and its processes share the images by a file.")
    file = more["state_file"].with_name("worker.keras")
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save(file)
    given = {"params": params, "task": task, "targets": targets, "n_train": n_train, **more}
    work = Work(Path.cwd(), file, Path(store.array.filename), store.array.shape, store.rows, given)
    try:
        (_on_ray if params.data.engine == "ray" else _here)(work)
    finally:
        file.unlink(missing_ok=True)
    return fit(model, params, task, store, targets, n_train, **more)  # its state is finished, and restored


def take_part(work: Work, rank: int, address: str) -> None:
    """Train as the process `rank`; that of rank 0 alone writes: the state after each epoch, and the log."""
    os.environ["KERAS_BACKEND"] = "jax"
    os.chdir(work.project)
    if rank:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
    jax = import_module("jax")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    from biopsy.networks.backend import keras, seed_everything
    from biopsy.training.fit import fit
    from biopsy.training.inputs.loader import ImageStore

    import_module("biopsy.networks.backbones.encoder")  # registers its layer
    params = work.given["params"]
    seed_everything(params.seed)
    if not jax.distributed.is_initialized():  # Ray does it for GPUs
        keras.distribution.initialize(address, work.count, rank)
    if jax.process_count() != work.count:
        raise MachineError(f"train.workers is {work.count}, and JAX has {jax.process_count()} processes.")
    HERE.rank, HERE.count, HERE.devices = rank, work.count, jax.device_count()
    keras.config.set_dtype_policy(params.train.precision)
    model = keras.models.load_model(work.model, compile=False)
    pixels = np.load(work.images, mmap_mode="r")[: math.prod(work.shape)].reshape(work.shape)
    store = ImageStore(pixels, work.rows)
    fit(model, store=store, **work.given)
    jax.distributed.shutdown()  # waits for the others


def _here(work: Work) -> None:
    """Start the processes on this machine's processor, and stop them all when one ends badly."""
    address = _free_address("127.0.0.1")
    pool = ProcessPoolExecutor(work.count, get_context("spawn"), _started, (os.getpid(),))
    running = [pool.submit(take_part, work, rank, address) for rank in range(work.count)]
    processes = list(pool._processes.values())
    try:
        for done in as_completed(running):
            done.result()
    except BiopsyError:
        raise
    except Exception as error:
        if isinstance(error, BrokenProcessPool) or _died(processes):
            raise MachineError(f"one of the {work.count} processes of train.workers was killed. {GO_ON}") from None
        raise
    finally:
        for process in processes:
            process.kill()
        pool.shutdown()


def _died(processes: list[Any], seconds: float = 5) -> bool:
    """Say whether a process ended badly; a lost connection may show before its death.

    The exit code is asked for again and again: where the pool's own thread asks at the same moment, one gets none.
    """
    end = time.monotonic() + seconds
    while not (died := any(process.exitcode for process in processes)) and time.monotonic() < end:
        time.sleep(0.1)
    return died


def _free_address(host: str) -> str:
    with socket.socket() as free:
        free.bind((host, 0))
        return f"{host}:{free.getsockname()[1]}"


def _started(stage: int) -> None:
    """End when the stage ends, even if it ended before this process began; leave Ctrl-C to the stage."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop_with_parent(stage)


def _on_ray(work: Work) -> None:
    """Let Ray Train run the processes, on nodes that see the project's folder, and start them again if one is lost."""
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)  # JAX's; what Ray starts uses no JAX
    with extra("ray"), open_engine("ray"):
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.v2.api.exceptions import TrainingFailedError
        from ray.train.v2.jax import JaxTrainer

        folder = work.model.parent.resolve()
        run = RunConfig(name="ray", storage_path=str(folder), failure_config=FailureConfig(max_failures=RETRIES))
        workers = ScalingConfig(num_workers=work.count)
        trainer = JaxTrainer(_on_a_node, train_loop_config={"work": work}, scaling_config=workers, run_config=run)
        try:
            trainer.fit()
        except TrainingFailedError as error:
            failures = getattr(error, "worker_failures", {}).values()
            for failure in failures:
                if isinstance(failure, BiopsyError):
                    raise failure from None
            raise MachineError(
                f"Ray Train lost a process of the training too often: {reason_of(error, 300)}. {GO_ON}"
            ) from None


def _on_a_node(given: dict[str, Work]) -> None:
    import ray
    from ray.train import get_context
    from ray.train.collective import broadcast_from_rank_zero

    rank = int(get_context().get_world_rank())
    address = broadcast_from_rank_zero(_free_address(ray.util.get_node_ip_address()))
    take_part(given["work"], rank, address)
