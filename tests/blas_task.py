"""A task of the tests of BLAS threads; the module loads no NumPy by itself."""

from __future__ import annotations


def blas_threads() -> list[int]:
    """Return the numbers of threads of the BLAS libraries of the process, NumPy's loaded first."""
    import numpy as np
    import threadpoolctl

    assert np.ones(1) == 1
    return [info["num_threads"] for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
