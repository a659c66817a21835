"""What the figures of a protocol are worth, in a word or two."""

from biopsy.core.protocol import PUBLIC

KINDS = {"image": "leaks", "slide": "half honest", "case": "honest"}
KINDS |= dict.fromkeys(PUBLIC, "shares cases") | {"given": "the CSV's"}


def with_kind(protocol: str) -> str:
    """Name a protocol with what its figures are worth: 'image (leaks)'."""
    kind = KINDS.get(protocol.partition("-")[0])
    return f"{protocol} ({kind})" if kind else protocol
