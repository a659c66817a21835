"""Trained models in use: `load` for Python, `biopsy predict` for the terminal.

In: a model's folder and images. Out: a table of predictions.
May import: core, images, tables, networks, evaluation.
"""
