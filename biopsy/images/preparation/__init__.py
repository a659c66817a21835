"""What is done to an image before a network sees it, as a record that travels with trees and models; no pixels here.

In: parameters, or the JSON beside a tree or in a model card. Out: a Preparation.
May import: core.
"""
