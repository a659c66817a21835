"""Images in memory or mapped from disk, batches in order, stored features.

In: files and targets. Out: batches.
May import: core, tables, networks, training.augment, training.memory, training.tensors.
"""
