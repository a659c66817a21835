"""Claim: ADOPT finds the solution of a problem on which Adam with a small beta_2 ends at the opposite point.

    python benchmarks/adopt.py                        the end values, about a minute on two cores
    python benchmarks/adopt.py --figure adopt.png     and the picture

The problem (Reddi et al., 2018, arXiv 1904.09237; the toy problem of the ADOPT paper, arXiv 2411.02853): minimise w on
[-1, 1], where the gradient is seen as k^2 with probability 1/k and as -k otherwise. Its mean is 1, so the solution is
-1; but where v forgets quickly, each rare k^2 is divided by itself and the many -k win. All runs start at 0 with the
learning rate 0.01 / sqrt(1 + t/100). ADOPT runs as algorithm 1, without clipping: +-t^(1/4) would cut k^2 till t = k^4.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from biopsy.networks.backend import keras, tf
from biopsy.training.optimizers.adopt import Adopt

K = 10
BETAS = (0.1, 0.9, 0.999, 0.9999)


class Slowing(keras.optimizers.schedules.LearningRateSchedule):
    """0.01 / sqrt(1 + t/100)."""

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step."""
        return 0.01 / keras.ops.sqrt(1 + 0.01 * keras.ops.cast(step, "float32"))


def toy(make: Callable[[Any], Any], steps: int, seeds: int, every: int = 100, k: int = K) -> np.ndarray:
    """Minimise with several draws at once, each one coordinate of one weight.

    Parameters
    ----------
    make
        From a learning rate to an optimiser.
    steps, seeds
        How long, and how many draws.
    every
        A value is kept after so many steps.
    k
        The size of the noise: the gradient's mean is 1, its deviation about k^1.5.

    Returns
    -------
    numpy.ndarray
        (1 + steps / every, seeds): w over time.
    """
    rng = np.random.default_rng(0)
    drawn = np.where(rng.random((steps, seeds)) < 1 / k, k * k, -k).astype(np.float32)
    weight = keras.Variable(np.zeros(seeds, np.float32))
    weight.constraint = lambda w: keras.ops.clip(w, -1, 1)
    optimizer = make(Slowing())
    optimizer.build([weight])

    @tf.function
    def advance(gradients: Any) -> None:
        for gradient in gradients:
            optimizer.apply([gradient], [weight])

    kept = [keras.ops.convert_to_numpy(weight)]
    for start in range(0, steps, every):
        advance(tf.constant(drawn[start : start + every]))
        kept.append(keras.ops.convert_to_numpy(weight))
    return np.array(kept)


def draw(found: dict[tuple[str, float], np.ndarray], steps: int, path: Path) -> None:
    """Draw w over time: one panel an optimiser, median and range of the draws."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import matplotlib.ticker

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, name in zip(axes, ("adam", "adopt"), strict=True):
        for beta in BETAS:
            values = found[name, beta]
            time = np.linspace(0, steps, len(values))
            axis.plot(time, np.median(values, 1), label=f"beta_2 = {beta}")
            axis.fill_between(time, values.min(1), values.max(1), alpha=0.2)
        axis.axhline(-1, color="grey", linestyle=":")
        axis.set(title=name.upper() if name == "adopt" else "Adam", xlabel="step")
        axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    axes[0].set_ylabel("w; the solution is -1")
    axes[1].legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--figure", type=Path, help="a PNG to write")
    chosen = parser.parse_args()
    makers = {"adam": keras.optimizers.Adam, "adopt": partial(Adopt, clip=False)}
    found = {}
    print(f"w after {chosen.steps} steps, k = {K}, {chosen.seeds} draws; the solution is -1")
    for name, optimizer in makers.items():
        for beta in BETAS:
            values = toy(partial(optimizer, beta_1=0.9, beta_2=beta), chosen.steps, chosen.seeds)
            found[name, beta] = values
            last = values[-1]
            print(
                f"{name:5}  beta_2 {beta:<6}  median {np.median(last):+.3f}  range {last.min():+.3f} {last.max():+.3f}"
            )
    if chosen.figure:
        draw(found, chosen.steps, chosen.figure)


if __name__ == "__main__":
    main()
