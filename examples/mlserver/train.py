"""Trains the example's model into the folder given: `python train.py FOLDER` writes FOLDER/model.joblib."""

from __future__ import annotations

import sys
from pathlib import Path

import joblib  # type: ignore[import-untyped]
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression


def main() -> None:
    """Trains on a data set that scikit-learn brings along, always with the same result."""
    data = load_iris()
    model = LogisticRegression(max_iter=500, random_state=0).fit(data.data, data.target)
    joblib.dump(model, Path(sys.argv[1]) / "model.joblib")


if __name__ == "__main__":
    main()
