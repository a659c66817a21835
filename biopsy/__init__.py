"""Biopsy: breast-cancer histology classification, trained and honestly evaluated. Research use only."""

__version__ = "0.1.0"
