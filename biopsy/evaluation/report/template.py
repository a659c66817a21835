"""The templates of the report and of the cards, with the words that both use."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from biopsy.core.text import count, isolated
from biopsy.evaluation.report import words


@cache  # it takes longer to compile one than to fill it in
def template(name: str, **options: Any) -> Template:
    """Load a template of this folder; a name that it does not get is an error.

    Parameters
    ----------
    name
        Of the file.
    options
        Of Jinja's `Environment`: how values are escaped.
    """
    if options.get("autoescape"):
        options["finalize"] = lambda value: isolated(value) if type(value) is str else value
    environment = Environment(  # noqa: S701 - each caller says how it escapes
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        **options,
    )  # fmt: skip
    environment.filters |= {
        "figure": words.number,
        "cut": words.cut,
        "interval": words.interval,
        "count": count,
        "zip": zip,
        "code": as_code,
    }
    return environment.get_template(name)


def as_code(text: str) -> Markup:
    """Write what stands in backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(isolated(text)))))  # noqa: S704 - it is escaped
