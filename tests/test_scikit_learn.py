"""scikit-learn on the joblib backend: the same results as on joblib's own processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import memchannel
import memchannel.integrations.joblib
from memchannel.bench._estimator import Perceptron

pytestmark = pytest.mark.usefixtures("level_leases")

X, Y = load_digits(return_X_y=True)
X, Y = X[:600], Y[:600]  # 307 KB: lent to the workers


def grid_search() -> dict[str, Any]:
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SVC()), {"svc__C": [1, 10], "svc__gamma": [1e-3, 1e-2]}
    )
    search.fit(X, Y)
    kept = {name: search.cv_results_[name] for name in search.cv_results_ if "test_score" in name}
    return {**kept, "best": search.best_params_, "predicted": search.predict(X)}


def own_estimator() -> dict[str, Any]:
    search = GridSearchCV(Perceptron(), {"rounds": [1, 2]}, cv=2).fit(X[:200], Y[:200])
    return {"scores": search.cv_results_["mean_test_score"], "weights": search.best_estimator_.weights_}


def validation() -> dict[str, Any]:
    return {"scores": cross_val_score(DecisionTreeClassifier(random_state=0), X, Y, cv=4)}


def forest() -> dict[str, Any]:
    forest = RandomForestClassifier(20, random_state=0, n_jobs=2, oob_score=True).fit(X, Y)
    return {"oob": forest.oob_score_, "p": forest.predict_proba(X), "used": forest.feature_importances_}


def nested() -> dict[str, Any]:
    """Estimators that are parallel themselves, in the workers."""
    search = GridSearchCV(RandomForestClassifier(random_state=0, n_jobs=2), {"n_estimators": [3, 6]}, cv=2)
    search.fit(X, Y)
    return {"scores": search.cv_results_["mean_test_score"], "predicted": search.predict(X)}


@pytest.mark.parametrize("job", [grid_search, own_estimator, validation, forest, nested])
def test_the_same_as_in_processes(job: Callable[[], dict[str, Any]]) -> None:
    with joblib.parallel_config("memchannel", n_jobs=2):
        found = job()
    with joblib.parallel_config("loky", n_jobs=2), warnings.catch_warnings():
        # loky starts its processes by fork and exec, in a process that has threads
        warnings.simplefilter("ignore", DeprecationWarning)
        expected = job()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_data_are_lent_to_each_fit() -> None:
    copied = memchannel.stats().bytes_copied
    with joblib.parallel_config("memchannel", n_jobs=2):
        grid_search()  # twenty fits
    # Indices and classes are smaller than 64 KiB.
    assert memchannel.stats().bytes_copied - copied < 5 * X.nbytes


def test_an_error_in_an_estimator() -> None:
    class Fails(DecisionTreeClassifier):  # type: ignore[misc]
        def fit(self, x: Any, y: Any) -> Any:
            raise LookupError("no tree")

    with pytest.raises(LookupError, match="no tree"), joblib.parallel_config("memchannel", n_jobs=2):
        cross_val_score(Fails(), X, Y, cv=2, error_score="raise")
