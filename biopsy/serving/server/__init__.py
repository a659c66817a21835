"""`biopsy serve`: the API, its queue and limits, and the page.

In: models and requests. Out: answers; nothing of a request is kept.
May import: core, images, tables.labels, sources.sample, networks, serving.
"""
