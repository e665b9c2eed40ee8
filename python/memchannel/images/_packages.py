"""What is known of single packages: their distribution, limits, refusals."""

from __future__ import annotations


class Package:
    """What is known of one package.

    Parameters
    ----------
    distribution : str
        Name to install it by.
    limit : str
        What does not work, "" where nothing is known.
    refused : str
        Why it is not loaded at all, "" where it is.
    daemon_threads : bool
        Whether it starts daemon threads, which the interpreter must be configured to allow.
    """

    __slots__ = ("daemon_threads", "distribution", "limit", "refused")

    def __init__(
        self,
        distribution: str,
        *,
        limit: str = "",
        refused: str = "",
        daemon_threads: bool = False,
    ) -> None:
        self.distribution, self.limit, self.refused = distribution, limit, refused
        self.daemon_threads = daemon_threads


# By import name. Each that is not refused has a check in `_checks` and was run: in two interpreters, in both
# at once, through their destruction and the end of the process.
PACKAGES: dict[str, Package] = {
    "numpy": Package("numpy"),
    "scipy": Package("scipy"),
    "pandas": Package("pandas"),
    "pyarrow": Package("pyarrow"),
    "skimage": Package("scikit-image"),
    "sklearn": Package("scikit-learn"),
    "PIL": Package("pillow"),
    "h5py": Package("h5py"),
    "numba": Package("numba"),
    "polars": Package("polars"),
    "matplotlib": Package("matplotlib", limit="drawing into files and memory (Agg, PDF); no windows"),
    "lxml": Package("lxml"),
    "msgspec": Package("msgspec"),
    "orjson": Package("orjson"),
    "ml_dtypes": Package("ml-dtypes"),
    "numexpr": Package("numexpr"),
    "uvloop": Package(
        "uvloop",
        refused="its event loop handles signals, which Python gives to the main interpreter only "
        "(signal.set_wakeup_fd); asyncio's own loop works",
    ),
    "zarr": Package(
        "zarr",
        limit="runs its store in a daemon thread: create the interpreter with allow_daemon_threads=True",
        daemon_threads=True,
    ),
    "cv2": Package("opencv-python-headless"),
    "shapely": Package("shapely"),
    "pyproj": Package("pyproj"),
    "rasterio": Package("rasterio"),
    "netCDF4": Package("netcdf4"),
    "tables": Package("tables"),
    "bottleneck": Package("bottleneck"),
    "statsmodels": Package("statsmodels"),
    "xarray": Package("xarray"),
    "astropy": Package("astropy"),
    "pywt": Package("pywavelets"),
    "yaml": Package("pyyaml"),
}


def import_name(distribution: str) -> str | None:
    """Return the name by which a distribution's package is imported, where it differs and is known."""
    wanted = distribution.lower().replace("_", "-")
    for name, package in PACKAGES.items():
        if package.distribution == wanted and name != distribution:
            return name
    return None
