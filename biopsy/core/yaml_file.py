"""Read a YAML file of parameters, which people edit. A file that would take minutes or gigabytes is an error."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from biopsy.core.errors import ParamsError

BYTES = 1_000_000
DEPTH = 50  # of brackets and indentation
NODES = 100_000  # once every alias (`*name`) is written out
LARGEST = 1e15  # no parameter is near; above it, whole numbers stop being exact


def read_yaml(path: Path) -> Any:
    """Read one document.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Any
        Mappings, lists, text, numbers, booleans and None.

    Raises
    ------
    ParamsError
        Missing, not YAML, absurdly large or deep, or with `${...}`: DVC compares the text of a parameter, so it would
        not see that the value behind a reference has changed.
    """
    from omegaconf import OmegaConf  # one of the pipeline's packages: a model's card imports this module
    from omegaconf.errors import OmegaConfBaseException

    restore = f"Restore it with `git checkout {path}`."
    try:
        data = path.read_bytes()
        if len(data) > BYTES:
            raise ParamsError(f"{path} has {len(data):,} bytes, more than any file of parameters. {restore}")
        text = data.decode("utf-8")
        _check_depth(text, path)
        _count_nodes(yaml.compose(text, yaml.SafeLoader), path)
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing. {restore}") from None
    except IsADirectoryError:
        raise ParamsError(f"{path} is a folder, not a file. {restore}") from None
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ParamsError(f"{path} is not valid YAML: {reason}. Correct it, or `git checkout {path}`.") from None
    for key, value in _leaves(content):
        if isinstance(value, str) and "${" in value:
            raise ParamsError(
                f"{path}: '{key}' is {value!r}. Write the value itself: `dvc repro` compares the text and would not "
                "see that what it refers to has changed. The files in conf/ may use ${...}."
            )
    return content


def check_numbers(content: Any, origin: str) -> None:
    """Make sure that each number of a parsed file is finite and of a sane size. Raises `ParamsError`."""
    for key, value in _leaves(content):
        if isinstance(value, int | float) and not abs(value) <= LARGEST:  # NaN is not either
            shown = f"{value:g}" if isinstance(value, float) else f"a number of {len(str(abs(value)))} digits"
            raise ParamsError(f"{origin}: '{key}' must be a finite number of at most {LARGEST:g}. Got {shown}.")


def _check_depth(text: str, path: Path) -> None:
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):  # not CSafeLoader: nothing is built, and it stops at once
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            raise ParamsError(f"{path} line {_line(event)}: more than {DEPTH} levels of brackets or indentation.")


def _count_nodes(root: yaml.Node | None, path: Path) -> None:
    """Count nodes with every alias expanded: nine aliases of nine aliases and so on are gigabytes."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in open_nodes:
            raise ParamsError(f"{path} line {_line(node)}: an anchor (`&`) that contains its own alias.")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            parts: list[Any] = node.value if isinstance(node, yaml.CollectionNode) else []
            pairs = isinstance(node, yaml.MappingNode)
            sizes[id(node)] = 1 + sum(size(part) for item in parts for part in (item if pairs else (item,)))
            open_nodes.discard(id(node))
        if sizes[id(node)] > NODES:
            raise ParamsError(f"{path} line {_line(node)}: its aliases (`*`) expand to more than {NODES:,} values.")
        return sizes[id(node)]

    if root is not None:
        size(root)


def _line(found: yaml.Event | yaml.Node) -> int:
    return found.start_mark.line + 1  # type: ignore[union-attr]


def _leaves(content: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key, and every value that is not a mapping or list, with its dotted name."""
    if isinstance(content, dict):
        for name, value in content.items():
            key = f"{above}.{name}" if above else str(name)
            yield key, name
            yield from _leaves(value, key)
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _leaves(value, f"{above}[{number}]")
    else:
        yield above, content
