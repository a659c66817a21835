"""What a model got right on the test set: truth and probabilities to figures and plots.

In: an Outcome. Out: metrics and plots.
May import: core, images, tables, networks.
"""
