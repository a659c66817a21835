"""What labels mean, and what a file name says.

In: text of a table or a file name. Out: labels in one spelling.
May import: core.
"""
