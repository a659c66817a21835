"""Biopsy: histology image classification, trained and honestly evaluated. Research use only; not for diagnosis."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biopsy.core.errors import BiopsyError
    from biopsy.serving.model import Model, load

__version__ = "0.1.0"
__all__ = ["BiopsyError", "Model", "load"]


def __getattr__(name: str) -> Any:
    """Import what is asked for: `import biopsy` itself costs nothing."""
    if name in __all__:
        from biopsy.core import errors
        from biopsy.serving import model

        return getattr(errors if name == "BiopsyError" else model, name)
    raise AttributeError(f"module 'biopsy' has no attribute '{name}'")
