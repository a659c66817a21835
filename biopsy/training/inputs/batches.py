"""Where batches come from: `tf.data` on TensorFlow, else threads that fill arrays; the same pixels in one order."""

from typing import TYPE_CHECKING

from biopsy.training.tensors.engine import ON_TENSORFLOW

if TYPE_CHECKING or ON_TENSORFLOW:
    from biopsy.training.inputs.tf_batches import feature_set, join_extra, plain_features, plain_set, training_set
else:
    from biopsy.training.inputs.array_batches import feature_set, join_extra, plain_features, plain_set, training_set

__all__ = ["feature_set", "join_extra", "plain_features", "plain_set", "training_set"]
