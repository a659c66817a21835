"""The label scheme: tasks, their classes, spellings and colours, and which classes are positive."""

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, ValidationError, model_validator

from biopsy.core.errors import DataError, nearest, some
from biopsy.core.files import write_json
from biopsy.core.labels import FROM_CSV, MOST_CLASSES, ClassLabel, Labels, TaskLabels
from biopsy.core.record import Record
from biopsy.core.text import look_up, plain

if TYPE_CHECKING:
    import pandas as pd

# Okabe and Ito's colours, told apart by colour-blind readers; above eight classes, Matplotlib's tab20 and tab20b.
FEW = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
MANY = (
    "#1f77b4", "#aec7e8", "#ff7f0e", "#ffbb78", "#2ca02c", "#98df8a", "#d62728", "#ff9896", "#9467bd", "#c5b0d5",
    "#8c564b", "#c49c94", "#e377c2", "#f7b6d2", "#7f7f7f", "#c7c7c7", "#bcbd22", "#dbdb8d", "#17becf", "#9edae5",
    "#393b79", "#6b6ecf", "#637939", "#b5cf6b", "#8c6d31", "#e7ba52", "#843c39", "#d6616b", "#7b4173", "#ce6dbd",
)  # fmt: skip
UNLABELLED = "unlabelled"  # in plots and counts, where no task has a label


class SchemeClass(Record):
    """One class: its name in tables, in words, other spellings, its class in the parent task, its colour."""

    name: str
    words: str
    synonyms: tuple[str, ...] = ()
    parent: str | None = None
    colour: str


class SchemeTask(Record):
    """One task: the CSV's column, its classes in the order of the outputs, the positive ones, the parent task.

    `classes` is empty until they are taken from the CSV. If one of two classes is positive, it stands last: the model's
    one output is its probability.
    """

    column: str | None
    classes: tuple[SchemeClass, ...]
    positive: tuple[str, ...] = ()
    parent: str | None = None

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        names = self.names
        if len(set(names)) < len(names):
            raise ValueError("a class appears twice")
        if names and not set(self.positive) <= set(names):
            raise ValueError("a positive class is not a class")
        return self

    @property
    def names(self) -> list[str]:
        """The classes' names, in order."""
        return [entry.name for entry in self.classes]

    @property
    def words(self) -> dict[str, str]:
        """From names to words."""
        return {entry.name: entry.words for entry in self.classes}

    @property
    def colours(self) -> dict[str, str]:
        """From names to colours, `#rrggbb`."""
        return {entry.name: entry.colour for entry in self.classes}

    @property
    def parents(self) -> dict[str, str]:
        """From names to the class of the parent task; empty where there is no such task."""
        return {entry.name: entry.parent for entry in self.classes if entry.parent}

    @property
    def parent_of(self) -> list[int] | None:
        """The number of each class's class in the parent task; None: no parent task, or one that divides nothing."""
        above = list(dict.fromkeys(self.parents.values()))
        if len(self.parents) < len(self.classes) or not 1 < len(above) < len(self.classes):
            return None
        return [above.index(self.parents[name]) for name in self.names]

    def read(self, text: str) -> str | None:
        """Return the class that a text names; case and punctuation do not count. None where it names no class.

        An empty text gives an empty string. If the classes are not known yet, every text is its own class.
        """
        if not text or not self.classes:
            return text
        return self._spellings().get(plain(text))

    def _spellings(self) -> dict[str, str]:
        return {plain(text): c.name for c in self.classes for text in (c.name, c.words, *c.synonyms)}


class LabelScheme(Record):
    """What the labels mean. Stored in `models/labels.json` and in every model's card."""

    name: str
    grammar: str | None
    map: dict[str, str] = Field(default_factory=dict)
    tasks: dict[str, SchemeTask]

    @classmethod
    def of(cls, labels: Labels) -> Self:
        """Make the scheme of the section `labels`; parents come before their children."""
        ordered = sorted(labels.tasks.items(), key=lambda item: item[1].parent is not None)
        tasks = {name: _task(task) for name, task in ordered}
        return cls(name=labels.name, grammar=labels.grammar, map=labels.map, tasks=tasks)

    def __getitem__(self, task: str) -> SchemeTask:
        return self.tasks[task]

    @property
    def columns(self) -> list[str]:
        """The names of the tasks, parents first: the text columns of the table of labels."""
        return list(self.tasks)

    def read(self, task: str, text: str) -> str | None:
        """Return the class that a cell of the CSV names, `map` applied first; see `SchemeTask.read`."""
        return self.tasks[task].read(self.mapped(text))

    def mapped(self, text: str) -> str:
        """Translate a cell by `map`; a cell that is not in it stays."""
        found = look_up(self.map, text)
        return text if found is None else found

    def with_classes(self, task: str, values: Iterable[str], where: str, blank: Collection[str] = ()) -> "LabelScheme":
        """Take the classes of a task from the values of a column.

        Parameters
        ----------
        task
            A task of the scheme whose classes are to be taken from the CSV.
        values
            All its labels; empty ones do not count.
        where
            What errors call the place: the CSV and its column.
        blank
            The words of the column that stand for no label, such as `None`.

        Raises
        ------
        DataError
            Fewer than 2 or more than 30 classes, or a positive class that does not occur.
        """
        key, spellings = f"labels.tasks.{task}", _spellings(values)
        names = sorted(spellings)
        if len(names) > MOST_CLASSES:
            raise DataError(
                f"{where} holds {len(names):,} different values ({some(names, 3)}), too many for the classes of a "
                f"task, which may be {MOST_CLASSES}. Name the column of the labels in {key}.column."
            )
        if len(names) < 2:
            found = f"one value, '{names[0]}'" if names else "no value"
            make = f", or make {some(blank, 2)} a class (-S 'labels.map={{{min(blank)}: ...}}')" if blank else ""
            raise DataError(
                f"{where} holds {found}; a task needs two classes. Name another column in {key}.column{make}."
            )
        by_plain = {plain(name): name for name in names}
        positive = tuple(by_plain.get(plain(name), name) for name in self.tasks[task].positive)
        absent = [name for name in positive if name not in names]
        if absent:
            raise DataError(
                f"{key}.positive names '{absent[0]}', and {where} holds {some(names, 30)}.{nearest(absent[0], names)}"
            )
        classes = {name: ClassLabel(synonyms=spellings[name]) for name in names}
        raw = TaskLabels(column=self.tasks[task].column, classes=classes, positive=list(positive))
        return self.model_copy(update={"tasks": {**self.tasks, task: _task(raw)}})


def finest(table: "pd.DataFrame", scheme: LabelScheme) -> list[str]:
    """Return the finest known label of each row: that of the last task that has one, else "unlabelled"."""
    rows = table[scheme.columns].to_numpy().tolist()
    return [next((name for name in reversed(names) if name), UNLABELLED) for names in rows]


def write_scheme(path: Path, scheme: LabelScheme) -> None:
    """Write `models/labels.json`."""
    write_json(path, scheme.model_dump())


def read_scheme(path: Path) -> LabelScheme:
    """Read `models/labels.json`. Raises `DataError` where it is missing, or not what the pipeline wrote."""
    try:
        scheme = LabelScheme.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} is missing. Run `dvc repro`.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"{path} is not a label scheme ({where}: {first['msg']}). Run `dvc repro impute`.") from None
    counts = {name: len(task.classes) for name, task in scheme.tasks.items()}
    if not counts or not all(2 <= count <= MOST_CLASSES for count in counts.values()):
        found = some(f"{name} {count}" for name, count in counts.items()) or "there is no task"
        raise DataError(
            f"{path} is not a label scheme (a task has 2 to {MOST_CLASSES} classes; here: {found}). Run "
            "`dvc repro impute`."
        )
    return scheme


def _spellings(values: Iterable[str]) -> dict[str, list[str]]:
    """Group values that differ only in case and punctuation: the most frequent spelling, and the others."""
    groups: dict[str, Counter[str]] = {}
    for value in values:
        if value:
            groups.setdefault(plain(value), Counter())[value] += 1
    ordered = [sorted(group, key=lambda name: (-group[name], name)) for group in groups.values()]
    return {first: others for first, *others in ordered}


def _task(task: TaskLabels) -> SchemeTask:
    """Complete a task: words, colours, and the positive one of two classes last."""
    if task.classes == FROM_CSV:
        return SchemeTask(column=task.column, classes=(), positive=tuple(task.positive))
    assert isinstance(task.classes, dict)
    names = list(task.classes)
    if len(names) == 2 and task.positive == names[:1]:
        names.reverse()
    palette = FEW if len(names) <= len(FEW) else MANY
    classes = tuple(
        SchemeClass(
            name=name,
            words=task.classes[name].name or name,
            synonyms=tuple(task.classes[name].synonyms),
            parent=task.classes[name].parent,
            colour=task.classes[name].colour or palette[i],
        )
        for i, name in enumerate(names)
    )
    return SchemeTask(column=task.column, classes=classes, positive=tuple(task.positive), parent=task.parent)
