"""Trained models in use: `load` for Python, `biopsy predict`, `export` and `serve` for the terminal.

In: a model's folder or .onnx file, and images. Out: a table of predictions, a page, an .onnx file.
May import: core, images, tables, networks, evaluation.
"""
