"""Whether a page can be used by everybody, as far as a program can tell: axe-core, in both themes and at two widths."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe


def violations(page: Any) -> list[str]:
    """What axe-core finds on an open page. No rule depends on theme and width together, so two looks do for four."""
    found: dict[str, None] = {}
    options = {"resultTypes": ["violations"], "preload": False, "rules": {"target-size": {"enabled": True}}}
    for scheme, width in (("dark", 390), ("light", 1280)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        told = Axe().run(page, options=options).response
        assert told["passes"], "axe-core found nothing to look at"
        for fault in told["violations"]:
            found |= dict.fromkeys(f"{fault['id']}: {node['html'][:200]}" for node in fault["nodes"])
    return list(found)
