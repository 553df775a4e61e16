"""The model: loaded in the pool's workers, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
from gunicorn.dirty import DirtyApp

# A file of joblib's is a program, as a pickle is: load only your own.
FILE = os.environ.get("IRIS_MODEL", "iris.joblib")
MEASURES = 4


class Iris(DirtyApp):
    workers = 2

    def init(self) -> None:
        self.classifier, self.names = joblib.load(FILE)
        # The first prediction is slower: no caller has to wait for that.
        self.classifier.predict_proba(np.zeros((1, MEASURES)))

    def predict(self, flowers: Any) -> list[dict[str, Any]]:
        """The name of each flower, given as rows of four numbers: lists, or a NumPy array."""
        probabilities = self.classifier.predict_proba(self._rows(flowers))
        best = probabilities.argmax(axis=1)
        return [
            {"name": self.names[name], "probability": round(float(row[name]), 4)}
            for row, name in zip(probabilities, best, strict=True)
        ]

    def probabilities(self, flowers: Any) -> np.ndarray:
        """The same as an array, for many flowers."""
        return self.classifier.predict_proba(self._rows(flowers))

    def stream(self, flowers: Any) -> Iterator[str]:
        """Names, one after the other."""
        for row in self._rows(flowers):
            yield self.names[int(self.classifier.predict(row.reshape(1, -1))[0])]

    def _rows(self, flowers: Any) -> np.ndarray:
        rows = np.asarray(flowers, dtype=float)
        if rows.ndim != 2 or rows.shape[1] != MEASURES:
            raise ValueError(f"each flower has {MEASURES} measures")
        return rows
