"""What a classical classifier makes of the same examples: regression on counted n-grams, and what needs no text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from multimodal.language.tasks.labelled import Example, LabelledTask

# Character n-grams for models of bytes and words for models of words: the classical model gets both.
MOST_FEATURES = 60_000


def _vectorizers() -> list[TfidfVectorizer]:
    return [
        TfidfVectorizer(
            analyzer="char",
            ngram_range=(1, 4),
            min_df=2,
            max_features=MOST_FEATURES,
            sublinear_tf=True,
            lowercase=False,
        ),
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=MOST_FEATURES, sublinear_tf=True),
    ]


def _columns(examples: Sequence[Example]) -> list[list[str]]:
    """The first texts; of pairs the second ones too, as features of their own."""
    first = [example.first for example in examples]
    if all(example.second is None for example in examples):
        return [first]
    return [first, [example.second or "" for example in examples]]


def n_gram_regression(task: LabelledTask) -> np.ndarray:
    """Answers to the test examples, `[n]`: class numbers by logistic regression, or scores by ridge regression.

    The features are the weighted counts (TF-IDF) of 1- to 4-grams of characters and of single words and pairs of words.
    """
    train, test = _columns(task.train), _columns(task.test)
    features_train, features_test = [], []
    for column, held_out in zip(train, test, strict=True):
        for vectorizer in _vectorizers():
            try:
                features_train.append(vectorizer.fit_transform(column))
            except ValueError:  # no n-gram comes twice
                continue
            features_test.append(vectorizer.transform(held_out))
    if not features_train:
        return trivial(task)
    inputs, asked = hstack(features_train).tocsr(), hstack(features_test).tocsr()
    targets = task.targets(task.train)
    model = LogisticRegression(C=10.0, max_iter=200) if task.info.classes else Ridge(alpha=1.0)
    answers: np.ndarray = model.fit(inputs, targets).predict(asked)
    return answers


def trivial(task: LabelledTask) -> np.ndarray:
    """The most frequent class, or the mean score, for every test example: `[n]`."""
    targets = task.targets(task.train)
    if task.info.classes:
        return np.full(len(task.test), np.bincount(targets).argmax())
    return np.full(len(task.test), targets.mean())
