"""Makes ``iris.joblib``: a classifier that tells three irises apart by their flowers' measures."""

from __future__ import annotations

import os

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FILE = os.environ.get("IRIS_MODEL", "iris.joblib")


def main() -> None:
    irises = load_iris()
    classifier = make_pipeline(StandardScaler(), LogisticRegression())
    classifier.fit(irises.data, irises.target)
    joblib.dump((classifier, [str(name) for name in irises.target_names]), FILE)


if __name__ == "__main__":
    main()
