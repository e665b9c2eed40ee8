"""A task of the tests of BLAS threads; the module loads no NumPy by itself."""

from __future__ import annotations


def blas_threads() -> list[int]:
    """Return the number of threads of NumPy's BLAS library, in a list.

    Of other libraries, such as SciPy's, pools set those that their workers load.
    """
    import numpy as np
    import threadpoolctl

    assert np.ones(1) == 1
    found = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "blas"]
    # In wheels it stands beside NumPy; elsewhere it may be one for all.
    numpys = [info for info in found if "numpy" in info["filepath"]]
    return [info["num_threads"] for info in numpys or found]
