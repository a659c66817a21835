"""`biopsy evaluate`: a trained model on a user's own labelled images.

In: a model, a CSV and a folder. Out: figures, predictions and a page.
May import: core, images, tables, networks, evaluation, serving.
"""
