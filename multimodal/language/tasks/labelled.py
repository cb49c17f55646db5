"""Labelled tasks: texts or pairs of texts, each with a class or a score, to train on and to test with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from multimodal.common.errors import DataError

CLASSES, SCORE = ("accuracy",), ("pearson", "spearman")


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """What a run knows of a labelled task.

    Attributes:
        name: of the task.
        classes: names of the classes; labels are indices into them. Empty: the label is a score.
        metrics: names in `METRICS`, the headline first.
        mean, deviation: of the scores that were trained on; the model tells scores in these units.
    """

    name: str
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    mean: float = 0.0
    deviation: float = 1.0

    @property
    def outputs(self) -> int:
        """Width of the task's head."""
        return len(self.classes) or 1


@dataclass(frozen=True, kw_only=True)
class Example:
    """One labelled text, or pair of texts.

    Attributes:
        first, second: the texts; `second` is None where the task has one text.
        label: the class's name, or the score.
        place: file and line, for errors and reports.
    """

    first: str
    second: str | None = None
    label: str | float
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class LabelledTask:
    """A task with its data.

    Attributes:
        info: name, classes, metrics.
        train, test: examples.
        notes: what was left out and why, for the user.
    """

    info: TaskInfo
    train: Sequence[Example]
    test: Sequence[Example]
    notes: tuple[str, ...] = field(default=())

    def targets(self, examples: Sequence[Example]) -> np.ndarray:
        """Class numbers int64 `[n]`, or scores float64 `[n]` as they are in the data.

        Raises:
            DataError: a class is not one of the task's; names its place.
        """
        if not self.info.classes:
            return np.array([float(example.label) for example in examples])
        numbers = {name: number for number, name in enumerate(self.info.classes)}
        for example in examples:
            if example.label not in numbers:
                raise DataError(
                    f"{example.place}: label {example.label!r} is none of the classes of {self.info.name} "
                    f"({', '.join(self.info.classes)}); correct the label, or train on data that has it"
                )
        return np.array([numbers[str(example.label)] for example in examples])


def make_task(
    name: str,
    train: Sequence[Example],
    test: Sequence[Example],
    *,
    scored: bool,
    classes: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    notes: Sequence[str] = (),
) -> LabelledTask:
    """Check a task's data and describe it.

    Args:
        name: of the task.
        train, test: examples.
        scored: labels are scores, not classes.
        classes: names of the classes in order; None: those of the training data, sorted.
        metrics: names; None: accuracy, or for scores the correlations.
        notes: more notes.

    Raises:
        DataError: no examples, one class only, or a label in one part that the other part must not lack.
    """
    for part, examples in (("train", train), ("test", test)):
        if not examples:
            raise DataError(f"task {name} has no {part} examples; give data that has some")
    if scored:
        scores = np.array([float(example.label) for example in train])
        deviation = float(scores.std())
        if deviation == 0:
            raise DataError(f"task {name}: all training scores are {scores[0]:g}; there is nothing to learn")
        info = TaskInfo(
            name=name, classes=(), metrics=tuple(metrics or SCORE), mean=float(scores.mean()), deviation=deviation
        )
        return LabelledTask(info=info, train=train, test=test, notes=tuple(notes))
    seen = Counter(str(example.label) for example in train)
    known = tuple(classes or sorted(seen))
    if len(known) < 2:
        raise DataError(f"task {name} has the only class {known[0]!r}; expected two or more")
    task = LabelledTask(
        info=TaskInfo(name=name, classes=known, metrics=tuple(metrics or CLASSES)),
        train=train,
        test=test,
        notes=tuple(notes),
    )
    task.targets(train)
    task.targets(test)
    untested = [name for name in known if name not in {example.label for example in test}]
    if untested:
        task = replace(task, notes=(*task.notes, f"the test data has no example of {', '.join(untested)}"))
    return task
