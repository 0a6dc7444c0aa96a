"""The estimators beside scikit-learn's own: scores on held-out rows and time, with equal settings, over several seeds.

Each table is cut anew for each seed (three quarters to learn from) and scaled; both estimators have scikit-learn's
defaults and the same seed. Targets of regression are scaled, too. A ratio of times is the total of theirs by the total
of ours, taken in turn, seed by seed, in one thread.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings

import numpy as np
import sklearn
from sklearn import datasets, neural_network
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import bpcore
import bpcore.sklearn

CLASSES = {
    "digits": lambda: datasets.load_digits(return_X_y=True),
    "breast cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "two moons": lambda: datasets.make_moons(500, noise=0.2, random_state=0),
}
NUMBERS = {
    "diabetes": lambda: datasets.load_diabetes(return_X_y=True),
    "linnerud": lambda: datasets.load_linnerud(return_X_y=True),
    "friedman1": lambda: datasets.make_friedman1(1000, noise=1.0, random_state=0),
}
#: What is measured: a name, where the estimators are from, and the dtype of X.
KINDS = (
    ("scikit-learn", neural_network, np.float64),
    ("bpcore", bpcore.sklearn, np.float64),
    ("bpcore, float32", bpcore.sklearn, np.float32),
)


def measure(X, y, classes: bool, seeds: int) -> dict[str, tuple[list[float], float]]:
    """For each kind, the scores of all seeds and the time of all fits."""
    scores: dict[str, list[float]] = {kind: [] for kind, *_ in KINDS}
    times = dict.fromkeys(scores, 0.0)
    for seed in range(seeds):
        X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=seed, stratify=y if classes else None)
        scaler = StandardScaler().fit(X_train)
        if not classes:
            mean, scale = y_train.mean(axis=0), y_train.std(axis=0)
            y_train, y_test = (y_train - mean) / scale, (y_test - mean) / scale
        for kind, module, dtype in KINDS:
            train, test = (scaler.transform(part).astype(dtype) for part in (X_train, X_test))
            model = (module.MLPClassifier if classes else module.MLPRegressor)(random_state=seed)
            start = time.perf_counter()
            model.fit(train, y_train)
            times[kind] += time.perf_counter() - start
            scores[kind].append(model.score(test, y_test))
    return {kind: (scores[kind], times[kind]) for kind in scores}


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tables", default="", help="names, separated by commas; all by default")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # read by bpcore when it first needs it
    threadpool_limits(1)
    warnings.simplefilter("ignore")  # that 200 epochs are not enough is the same for both
    print(f"scikit-learn {sklearn.__version__}, bpcore {bpcore.__version__}, backend {bpcore.backend}\n")
    print("| table | rows | scikit-learn | bpcore | bpcore, float32 | time | time, float32 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    wanted = [name for name in arguments.tables.split(",") if name]
    for name, load in {**CLASSES, **NUMBERS}.items():
        if wanted and name not in wanted:
            continue
        X, y = load()
        found = measure(X, y, name in CLASSES, arguments.seeds)
        cells = [f"{np.mean(scores):.4f} ± {np.std(scores, ddof=1):.4f}" for scores, _ in found.values()]
        theirs, *ours = (seconds for _, seconds in found.values())
        ratios = [f"{theirs / seconds:.1f}" for seconds in ours]
        print(f"| {name} | {len(X)} | {' | '.join(cells)} | {' | '.join(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
