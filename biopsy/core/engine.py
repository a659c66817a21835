"""Where many calls of one function run: in threads of this process, or as tasks of a Ray cluster."""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from biopsy.core.errors import MachineError, reason_of
from biopsy.core.extras import extra

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Engine:
    """Calls a function somewhere and returns its result; several threads may use it at the same time.

    Attributes
    ----------
    width
        How many threads keep it busy.
    call
        `(function, *arguments) -> result`. The function is one of a module; what it raises is raised here.
    share
        Sends an argument of many calls once; its result is then given to `call` instead.
    """

    width: int
    call: Callable[..., Any]
    share: Callable[[Any], Any] = lambda argument: argument


LOCAL = Engine(os.cpu_count() or 1, lambda function, *arguments: function(*arguments))


@contextmanager
def open_engine(kind: str, address: str | None = None, cpus: float = 1, gpus: float = 0) -> Iterator[Engine]:
    """Open an engine for the block.

    Parameters
    ----------
    kind
        `local` or `ray`.
    address
        Of the cluster. None: that of `RAY_ADDRESS`, else the one that runs on this machine, else a new one here.
    cpus, gpus
        What Ray sets aside for each call.

    Raises
    ------
    MachineError
        Ray is not installed, the cluster does not answer, or, in a call, it lost a task four times.
    """
    if kind == "local":
        yield LOCAL
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with extra("ray"):
        import ray
    # Nodes get this very package, even if they have another version of it.
    options = {"runtime_env": {"py_modules": [str(PACKAGE)]}, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        place = address or os.environ.get("RAY_ADDRESS") or "this machine"
        raise MachineError(
            f"no Ray cluster answers at {place} ({reason_of(error)}). `ray start --head` starts one. If one runs "
            "there, it may want its token: set RAY_AUTH_MODE to token."
        ) from None
    try:
        yield _on(ray, cpus, gpus)
    finally:
        ray.shutdown()


def check_opencv(version: str) -> None:
    """Reject a machine whose OpenCV is not of `version`, as everywhere else: it might round pixels differently.

    Raises `MachineError`.
    """
    import cv2

    if cv2.__version__ != version:
        raise MachineError(f"{platform.node()} has OpenCV {cv2.__version__}. Install {version} there, as it is here.")


def _on(ray: Any, cpus: float, gpus: float) -> Engine:
    @cache
    def remote(function: Callable[..., Any]) -> Any:
        return ray.remote(num_cpus=cpus, num_gpus=gpus)(function)  # a task whose node dies runs again, three times

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return ray.get(remote(function).remote(*arguments))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise MachineError(f"the Ray cluster lost a task: {reason_of(error, 300)}") from None

    return Engine(max(2 * int(ray.cluster_resources().get("CPU", 1) // max(cpus, 0.1)), 1), call, ray.put)
