"""The operations that augmentations are written in: TensorFlow's, or NumPy's by the same names.

In: arrays or tensors, and seeds of two integers. Out: the same pixels and draws from both.
May import: core, networks.backend.
"""
