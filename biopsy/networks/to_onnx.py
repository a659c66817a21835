"""A function in TensorFlow as an ONNX graph."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from biopsy.core.extras import extra

OPSET = 17


def to_onnx(function: Callable[[Any], Any], taken: Any, opset: int = OPSET) -> Any:
    """Convert a function.

    Parameters
    ----------
    function
        From a tensor to a tensor, or to a dict of them by name.
    taken : tf.TensorSpec
        Of its tensor, with a name.
    opset
        Of ONNX.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    MachineError
        tf2onnx is not installed.
    Exception
        Classes of tf2onnx's own, where it does not know an operation.
    """
    with extra("pipeline"):
        import tf2onnx

    from biopsy.networks.backend import tf

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it does not know is said by its exception
    graph = tf.function(function, autograph=False)
    made, _ = tf2onnx.convert.from_function(graph, [taken], opset=opset, custom_op_handlers={"Erfc": (_erfc, [])})
    return made


def _erfc(graph: Any, node: Any, *_: object) -> None:
    """Write 1 - Erf for Erfc, which TensorFlow's GELU has and ONNX has not; called by tf2onnx."""
    output, shape, kind = node.output[0], graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    inner = graph.make_node("Erf", node.input, shapes=[shape], dtypes=[kind])
    one = graph.make_const(f"{node.name}_one", np.array(1, np.float32))
    graph.remove_node(node.name)
    graph.make_node("Sub", [one.output[0], inner.output[0]], outputs=[output], shapes=[shape], dtypes=[kind])
