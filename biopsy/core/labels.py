"""The section `labels` of params.yaml: tasks, their classes, and which label schemes are rejected."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from biopsy.core.errors import nearest
from biopsy.core.sections.section import Section, Task
from biopsy.core.text import plain

MOST_CLASSES = 30
FROM_CSV = "from_csv"
# Columns of the pipeline's own tables.
RESERVED = {
    *("row", "image_id", "path", "class", "magnification", "mpp", "slide", "case", "part", "fold", "given", "target"),
    *("file", "width", "height", "mode", "bytes", "sha256", "pixels_sha256", "brightness", "truth", "predicted"),
}


class ClassLabel(Section):
    """One class of a task: its name in words, other spellings, its class in the parent task, a colour for plots."""

    name: str | None = None
    synonyms: list[str] = Field(default_factory=list)
    parent: str | None = None
    colour: str | None = Field(None, pattern=r"^#[0-9a-fA-F]{6}$")


class TaskLabels(Section):
    """One task: the CSV's column, the classes in their order, which of them are positive, and the parent task.

    `classes: from_csv` takes the values of the column, sorted. `column: null` says that the CSV has no such column.
    """

    column: str | None
    classes: Literal["from_csv"] | dict[str, ClassLabel]
    positive: list[str] = Field(default_factory=list)
    parent: Task | None = None

    @field_validator("classes", mode="before")
    @classmethod
    def _as_mapping(cls, value: Any) -> Any:
        """Take a list of names too, keys such as 0 and 1, and a class without settings."""
        if isinstance(value, list):
            if any(isinstance(name, list | dict) for name in value):
                raise ValueError("each class in the list must be a name")
            if len({str(name) for name in value}) < len(value):
                raise ValueError("a class is in the list twice")
            value = dict.fromkeys(value)
        if isinstance(value, dict):
            return {str(name): entry or {} for name, entry in value.items()}
        return value

    @field_validator("positive", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return [str(name) for name in value] if isinstance(value, list) else value


class Labels(Section):
    """What the labels mean: tasks, their classes, and the grammar of the file names; see conf/labels/."""

    name: str = "from_csv"
    grammar: str | None = None
    map: dict[str, str] = Field(default_factory=dict)
    tasks: dict[Task, TaskLabels] = Field({"label": TaskLabels(column="label", classes="from_csv")}, min_length=1)

    @field_validator("map", mode="before")
    @classmethod
    def _keys_are_text(cls, value: Any) -> Any:
        """Read `map: {0: benign}`: YAML takes 0 for a number, a CSV has text. `-S` can replace null, not `{}`."""
        value = {} if value is None else value
        if not isinstance(value, dict):
            return value
        nested = next((key for key, word in value.items() if isinstance(word, dict | list)), None)
        if nested is not None:
            raise ValueError(f"labels.map.{nested} is {value[nested]}; it must be a word, or null for no label")
        return {str(key): "" if word is None else str(word) for key, word in value.items()}

    @model_validator(mode="after")
    def _is_a_scheme(self) -> Self:
        for name, task in self.tasks.items():
            if name in RESERVED:
                raise ValueError(f"labels.tasks.{name}: '{name}' is a column of the pipeline's tables. Rename the task")
            if task.column is None and task.classes == FROM_CSV:
                raise ValueError(
                    f"labels.tasks.{name}.column is null, and its classes come from that column. Name it, or name the "
                    "classes"
                )
            _check_parent(name, task, self.tasks)
            if isinstance(task.classes, dict):
                _check_classes(name, task)
        return self


def _check_classes(name: str, task: TaskLabels) -> None:
    """Raise ValueError for classes that a task cannot have."""
    assert isinstance(task.classes, dict)
    if not 2 <= len(task.classes) <= MOST_CLASSES:
        raise ValueError(
            f"labels.tasks.{name}.classes names {len(task.classes)} class{'es' * (len(task.classes) != 1)}; a task has "
            f"2 to {MOST_CLASSES}"
        )
    spelled: dict[str, str] = {}
    for code, entry in task.classes.items():
        for spelling in {plain(text) for text in (code, entry.name or code, *entry.synonyms)}:
            other = spelled.setdefault(spelling, code)
            if other != code:
                raise ValueError(
                    f"labels.tasks.{name}.classes: '{spelling}' means both '{other}' and '{code}' (case, spaces and "
                    "punctuation do not count). Take the name or synonym out of one of them"
                )
    unknown = [code for code in task.positive if code not in task.classes]
    if unknown:
        raise ValueError(
            f"labels.tasks.{name}.positive names '{unknown[0]}', which is not a class of the task."
            f"{nearest(unknown[0], task.classes)} Its classes are {', '.join(task.classes)}"
        )
    if len(set(task.positive)) == len(task.classes):
        raise ValueError(f"labels.tasks.{name}.positive names every class. Leave at least one out")


def _check_parent(name: str, task: TaskLabels, tasks: Mapping[str, TaskLabels]) -> None:
    """Raise ValueError where the parent task, or a class's parent in it, does not exist."""
    classes = task.classes if isinstance(task.classes, dict) else {}
    if task.parent is None:
        named = next((code for code, entry in classes.items() if entry.parent), None)
        if named:
            raise ValueError(
                f"labels.tasks.{name}.classes.{named} names a parent, and the task names none. Set "
                f"labels.tasks.{name}.parent to the task that has '{classes[named].parent}'"
            )
        return
    above = tasks.get(task.parent)
    if above is None or task.parent == name or above.parent is not None:
        raise ValueError(
            f"labels.tasks.{name}.parent is '{task.parent}', which must be another task of the scheme that has "
            f"no parent.{nearest(task.parent, [other for other in tasks if other != name])}"
        )
    if not isinstance(task.classes, dict) or not isinstance(above.classes, dict):
        raise ValueError(f"labels.tasks.{name}.parent needs classes that are named, in both tasks, not from_csv")
    for code, entry in task.classes.items():
        if entry.parent not in above.classes:
            found = "no parent" if entry.parent is None else f"the parent '{entry.parent}'"
            raise ValueError(
                f"labels.tasks.{name}.classes.{code} has {found}; it must be one of {', '.join(above.classes)}, the "
                f"classes of '{task.parent}'"
            )
