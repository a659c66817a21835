"""What a model got right on the test set: truth and probabilities to figures and plots.

In: a trained model, and its test and validation images. Out: metrics and plots.
May import: core, images, tables, networks.
"""
