"""`biopsy publish`: what a stranger can use, in a folder or on the hub: model card, ONNX file, metadata, example."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from biopsy.core.encoders import NO_HEADS
from biopsy.core.errors import ParamsError, SourceError, some
from biopsy.core.files import atomic_files, sha256
from biopsy.networks.model_file import NOTICE, Card
from biopsy.serving.export.hub import repository_of, upload
from biopsy.serving.onnx_file import export_of, open_file
from biopsy.serving.similar import read_similar

FILES = ("README.md", "example.py", "metadata.json", "model.onnx")
BULKY = ("card", "learnt_from", "similar")  # what metadata.json leaves to the .onnx file
# What a card says, and what is true of the file.
BESIDE = ("`model.json` beside `model.keras` holds", "`model.onnx` holds")
FOLDS = " The other folds lie beside this one."
EXAMPLE = f'''"""Predict images: `python example.py image.png ...`. {NOTICE}

Needs Biopsy with its extra `predict`: no TensorFlow, no Keras.
"""

import sys
from pathlib import Path

from biopsy import load

print(load(Path(__file__).with_name("model.onnx")).predict(sys.argv[1:]).to_string())
'''


def publish(model: Path, target: str, text: Path | None = None, yes: bool = False) -> list[str]:
    """Write a model for others; nothing unless `yes`.

    Parameters
    ----------
    model
        An .onnx file, or a folder of which one was exported.
    target
        A folder, or `hf://user/name` on the Hugging Face hub: new, empty, or one that was published to before.
    text
        The model card in Markdown, which must be of this model; None: `plots/cards/<task>-<protocol>.md`.
    yes
        Whether to write.

    Returns
    -------
    list of str
        Lines that say what is, or would be, published, and what of the training it tells.

    Raises
    ------
    ParamsError
        The target is no folder or repository to write into.
    SourceError
        The model was not exported, its encoder's terms forbid it, or the card is missing or of another model; the hub
        does not take it.
    """
    repository = repository_of(target) if "://" in target else None
    folder, path = Path(target), _exported(model)
    if not repository and folder.exists() and (not folder.is_dir() or {p.name for p in folder.iterdir()} - set(FILES)):
        raise ParamsError(f"{folder} is a file, or holds others than {', '.join(FILES)}. Name a new folder.")
    content, facts, card = open_file(path)
    if NO_HEADS in card.terms:
        raise SourceError(f"{path} may not be published. {card.terms}")
    text = text or Path("plots/cards", f"{card.task}-{card.protocol}.md")
    if not text.is_file():
        raise SourceError(
            f"{text} does not exist, and every model needs a card. Run `dvc repro report` where the model was trained, "
            "and name its card with --card."
        )
    told = ""
    with suppress(UnicodeDecodeError):  # no text, and so no card
        told = text.read_text("utf-8")
    if NOTICE not in told or not all(digest in told for digest in card.members or [card.model_sha256]):
        if card.members:
            raise SourceError(
                f"{text} does not name all models whose answers {path} averages. The card of a cross-validation names "
                "its folds; for other models write one with their hashes and the notice of theirs, and use --card."
            )
        raise SourceError(f"{text} is not the card of {path}, whose hash it does not name. Run `dvc repro report`.")
    written = {
        "README.md": _for_file(told, card).encode(),
        "example.py": EXAMPLE.encode(),
        "metadata.json": metadata_of(facts, sha256(path)).encode(),
        "model.onnx": content,
    }
    lines = [f"{target.rstrip('/')}/{name}: {len(data):,} bytes" for name, data in written.items()]
    lines += _tells(facts, path)
    if repository:
        lines.append("all can read it, unless the repository exists and is private")
    if not yes:
        return [*lines, "Nothing was written. Add --yes to publish."]
    if repository:
        return [*lines, f"published: {upload(repository, written, f'{card.task}-{card.protocol}. {NOTICE}')}"]
    with atomic_files(folder, list(written)) as places:  # the card of one model beside another would mislead
        for place, data in zip(places, written.values(), strict=True):
            place.write_bytes(data)
    return [*lines, f"published in {folder}. {NOTICE}"]


def _exported(model: Path) -> Path:
    """Find the .onnx file of a model."""
    if model.suffix.lower() == ".onnx":
        return model
    if found := export_of(model):
        return found
    raise SourceError(f"{model} was not exported since it was made. Run `biopsy export {model}`, name the .onnx file.")


def _for_file(text: str, card: Card) -> str:
    """Let the card of a folder, or of the folders of all folds, speak of the .onnx file beside it."""
    text = re.sub(rf"models/{re.escape(f'{card.task}-{card.protocol}')}(/\d+-\d+)?", "model.onnx", text)
    text = text.replace("library_name: keras", "library_name: onnx").replace(*BESIDE).replace(FOLDS, "")
    if card.members:
        says = "the mean of the models below, which has no figures of its own: the figures are those of these models"
    elif card.fold:
        says = f"the model of fold {card.fold}, and the figures are those of the models of all folds"
    else:
        return text
    heading = "## How to load it\n"
    return text.replace(heading, f"{heading}\n`model.onnx` is {says}, each on images that it had not seen.\n", 1)


def metadata_of(facts: dict[str, str], digest: str | dict[str, str]) -> str:
    """Write a file's metadata, with its hash or those of its parts, for people and programs that read no ONNX."""

    def value(told: str) -> Any:
        try:
            return json.loads(told)
        except ValueError:
            return told

    known = {key: value(told) for key, told in facts.items() if key not in BULKY}
    return json.dumps({**known, "file_sha256": digest}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _tells(facts: dict[str, str], path: Path) -> list[str]:
    """Say what the file tells of the training images, so that nobody publishes more than they may."""
    lines = [f"licence: {facts.get('licence', 'not known')}"]
    if similar := read_similar(facts, path):
        lines.append(f"model.onnx holds features of {len(similar.classes):,} training images")
        if similar.images:
            pictures = " and small pictures" if similar.pictures else ""
            lines.append(
                f"it tells their names{pictures}: {some(similar.images, 3)}. Leave them out with "
                "`biopsy export --similar none`."
            )
    return lines
