"""ADOPT (Taniguchi et al., 2024, arXiv 2411.02853v3), which converges with any beta_2, as a Keras optimiser.

Written to Keras alone: it runs on TensorFlow, JAX and PyTorch. Reference implementation: github.com/iShohei220/adopt.
"""

from collections.abc import Sequence
from typing import Any

from biopsy.networks.backend import keras
from biopsy.training.optimizers.registry import Optimizer, register

ops = keras.ops


@keras.saving.register_keras_serializable("biopsy")
class Adopt(keras.optimizers.Optimizer):
    """Adam with the gradient divided by the second moment of the steps before, and only then averaged.

    With g the gradient, at t = 0: v = g^2 and no step. At t >= 1 (algorithm 2 of the paper):

        m = beta_1 m + (1 - beta_1) clip(g / max(sqrt(v), epsilon), -t^(1/4), t^(1/4))
        w = w - learning_rate m
        v = beta_2 v + (1 - beta_2) g^2

    Parameters
    ----------
    learning_rate
        A float, above 0, or a Keras schedule.
    beta_1, beta_2
        How much of the moments is kept; 0 <= beta < 1.
    epsilon
        The least value that a gradient is divided by.
    clip
        Whether the divided gradient is clipped to +-t^(1/4), as version 3 of the paper does it.
    weight_decay
        Decoupled, as in AdamW: w = w - learning_rate weight_decay w before each step; none at t = 0, as in the
        reference implementation.
    **kwargs
        What every Keras optimiser takes: clipping of the gradient's norm, `use_ema`, `gradient_accumulation_steps`.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.9999,
        epsilon: float = 1e-6,
        clip: bool = True,
        weight_decay: float | None = None,
        name: str = "adopt",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        for key, beta in (("beta_1", beta_1), ("beta_2", beta_2)):
            if not 0 <= beta < 1:
                raise ValueError(f"{key} must lie in [0, 1). Received: {key}={beta}")
        if epsilon <= 0:
            raise ValueError(f"epsilon must be above 0. Received: epsilon={epsilon}")
        self.beta_1, self.beta_2, self.epsilon, self.clip = beta_1, beta_2, epsilon, clip

    def build(self, variables: Sequence[Any]) -> None:
        """Make the two moments of each variable."""
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(variables, ["momentum", "velocity"])

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Do one step for one variable; at t = 0 only the second moment is set."""
        dtype = variable.dtype
        g, rate = ops.cast(gradient, dtype), ops.cast(learning_rate, dtype)
        i = self._get_variable_index(variable)
        m, v = self._momentums[i], self._velocities[i]
        t = ops.cast(self.iterations, dtype)
        started = t > 0
        divided = g / ops.maximum(ops.sqrt(v), self.epsilon)
        if self.clip:
            bound = ops.power(t, 0.25)
            divided = ops.clip(divided, -bound, bound)
        # At t = 0 v is still 0 and the quotient means nothing: `where` leaves it out, and m stays 0.
        momentum = ops.where(started, self.beta_1 * m + (1 - self.beta_1) * divided, ops.zeros_like(g))
        self.assign(m, momentum)
        self.assign_sub(variable, rate * momentum)
        self.assign(v, ops.where(started, self.beta_2 * v + (1 - self.beta_2) * ops.square(g), ops.square(g)))

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Decay the weights, but not at t = 0, where Keras's own method would."""
        if self.weight_decay is None:
            return
        for variable in variables:
            if self._use_weight_decay(variable):
                rate = ops.cast(self.learning_rate, variable.dtype) * ops.cast(self.iterations > 0, variable.dtype)
                self.assign(variable, variable * (1 - rate * self.weight_decay))

    def get_config(self) -> dict[str, Any]:
        """Return all that makes an equal optimiser."""
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon, "clip": self.clip}
        config: dict[str, Any] = {**super().get_config(), **own}
        return config


register(Optimizer("adopt", Adopt, "Adam that converges with any beta_2 (Taniguchi et al., 2024, arXiv 2411.02853)."))
