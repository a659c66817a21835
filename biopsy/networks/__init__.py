"""Pixels to probabilities: Keras, backbones, heads, the model file and its card, converted weights.

In: parameters and weights. Out: Keras models, and models/<name>.
May import: core, images, tables.
"""
