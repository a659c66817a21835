"""Models that leave the project: one ONNX file, other runtimes, a folder or hub to publish in.

In: a model's folder. Out: files that need no TensorFlow.
May import: core, images, sources.web, networks, evaluation, serving.
"""
