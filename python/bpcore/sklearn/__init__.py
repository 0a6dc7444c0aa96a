"""scikit-learn's ``MLPClassifier`` and ``MLPRegressor`` on this package: the same parameters, attributes and results.

>>> from bpcore.sklearn import MLPClassifier
>>> model = MLPClassifier(hidden_layer_sizes=(8,), random_state=0, max_iter=500)
>>> model.fit([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [3.0, 3.0]], ["low", "low", "low", "high"]).predict([[3.0, 2.5]])
array(['high'], dtype='<U4')
"""

try:
    import sklearn  # noqa: F401
except ImportError:
    raise ImportError("bpcore.sklearn needs the package scikit-learn: pip install 'bpcore[sklearn]'") from None

from ._estimators import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
