"""An estimator as people write them: importable in every worker, and beside scikit-learn's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

__all__ = ["Perceptron"]


class Perceptron(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A linear classifier in pure Python: threads take turns at it."""

    def __init__(self, rounds: int = 1, rate: float = 1.0) -> None:
        self.rounds = rounds
        self.rate = rate

    def fit(self, x: NDArray[Any], y: NDArray[Any]) -> Perceptron:
        """Learn the weights, row by row."""
        self.classes_ = np.unique(y)
        weights = [[0.0] * x.shape[1] for _ in self.classes_]
        for _ in range(self.rounds):
            for row, right in zip(x.tolist(), y.tolist(), strict=True):
                scores = [sum(w * value for w, value in zip(one, row, strict=True)) for one in weights]
                wrong = scores.index(max(scores))
                if wrong != right:
                    for i, value in enumerate(row):
                        weights[right][i] += self.rate * value
                        weights[wrong][i] -= self.rate * value
        self.weights_ = np.array(weights)
        return self

    def predict(self, x: NDArray[Any]) -> NDArray[Any]:
        """Choose the class with the greatest score."""
        chosen: NDArray[Any] = self.classes_[(x @ self.weights_.T).argmax(axis=1)]
        return chosen
