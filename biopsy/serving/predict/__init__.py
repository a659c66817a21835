"""`biopsy predict`: what models say of many images, cases and slides.

In: models and the images that a person names. Out: a table, and pictures of where the models look.
May import: core, serving.
"""
