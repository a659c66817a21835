"""Biopsy: histology image classification, trained and honestly evaluated. Research use only; not for diagnosis."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from biopsy.serving.model import Model, load

__version__ = "0.1.0"
__all__ = ["Model", "load"]


def __getattr__(name: str) -> Any:
    """Import `load` and `Model` when they are asked for: `import biopsy` itself costs nothing."""
    if name in __all__:
        from biopsy.serving import model

        return getattr(model, name)
    raise AttributeError(f"module 'biopsy' has no attribute '{name}'")
