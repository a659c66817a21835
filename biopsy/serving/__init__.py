"""Trained models in use: `load` for Python; `biopsy predict`, `evaluate`, `explain`, `export`, `publish`, `serve`.

In: a model's folder or .onnx file, and images. Out: predictions, maps of where a model looks, a page, an .onnx file.
May import: core, images, tables, sources.sample, sources.web, networks, evaluation.
"""
