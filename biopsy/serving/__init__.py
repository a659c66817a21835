"""Trained models in use: empty so far.

In: a model and images. Out: predictions.
May import: core, images, tables, networks, evaluation.
"""
