"""Labelled pixels to a trained model: fit, losses, optimizers, schedules, resume, memory.

In: a split table and its images. Out: weights, curves, train.json.
May import: core, images, tables, networks.
"""
