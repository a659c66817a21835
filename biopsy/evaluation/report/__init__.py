"""The report of a whole project: one HTML file that opens with the verdict in plain words.

In: metrics, predictions and tables, no model. Out: plots/report.html.
May import: core, images, tables, networks, evaluation.
"""
