"""The digital elevation model that matplotlib ships, with its cell size in metres."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memchannel.demo._sky_view import Search

# WGS 84, the datum of the model: semi-major axis in metres, and flattening.
_SEMI_MAJOR_AXIS = 6_378_137.0
_FLATTENING = 1 / 298.257223563


class DemoUnavailableError(ImportError):
    """The demo needs matplotlib, for its sample data and for the picture, and it cannot be imported."""


@dataclass(frozen=True)
class Terrain:
    """A digital elevation model on a regular grid, first row in the north, first column in the west.

    Attributes
    ----------
    name : str
        What the model shows.
    elevation : ndarray, shape (rows, columns), int16
        Elevation of each cell in metres.
    dx, dy : float
        Size of a cell in metres, eastward and southward.
    """

    name: str
    elevation: NDArray[np.int16]
    dx: float
    dy: float

    def search(self, *, radius: float, directions: int = 32) -> Search:
        """Put together the keyword arguments of `sky_view_factor` for this grid; `radius` in metres."""
        return Search(dx=self.dx, dy=self.dy, radius=radius, directions=directions)


def metres_per_degree(latitude: float) -> tuple[float, float]:
    """Length of one degree of longitude and of one degree of latitude on the WGS 84 ellipsoid.

    Parameters
    ----------
    latitude : float
        Geodetic latitude in degrees, -90 to 90.

    Returns
    -------
    tuple of float
        Metres per degree of longitude, metres per degree of latitude.

    Raises
    ------
    ValueError
        `latitude` is outside -90 to 90.

    Notes
    -----
    J. P. Snyder, *Map Projections: A Working Manual*, U.S. Geological Survey Professional Paper 1395 (1987),
    page 25: radius of curvature in the plane of the meridian (4-18) and perpendicular to it (4-20).
    """
    if not -90 <= latitude <= 90:
        raise ValueError(f"latitude is {latitude!r}; give degrees between -90 and 90")
    phi = math.radians(latitude)
    eccentricity2 = _FLATTENING * (2 - _FLATTENING)
    w2 = 1 - eccentricity2 * math.sin(phi) ** 2
    prime_vertical = _SEMI_MAJOR_AXIS / math.sqrt(w2)
    meridian = prime_vertical * (1 - eccentricity2) / w2
    return math.radians(prime_vertical * math.cos(phi)), math.radians(meridian)


def load_jacksboro(step: int = 1) -> Terrain:
    """Load the model of the Jacksboro fault, Tennessee, from matplotlib's sample data.

    Parameters
    ----------
    step : int, default 1
        Keep every `step`-th row and column: 1 is the whole model of 344 x 403 cells.

    Returns
    -------
    Terrain
        Cells of about 75 x 92 metres, times `step`.

    Raises
    ------
    DemoUnavailableError
        matplotlib cannot be imported, or it was installed without its sample data.
    ValueError
        `step` is below 1.

    Notes
    -----
    The file gives the size of a cell in degrees, 3 seconds of arc. The middle latitude serves for all rows:
    over the 0.29 degrees of the model the width of a cell changes by less than 0.4 %.
    """
    if step < 1:
        raise ValueError(f"step is {step}; give 1 for every cell, 2 for every second one, and so on")
    with np.load(_sample_file("jacksboro_fault_dem.npz")) as data:
        latitude = (float(data["ymin"]) + float(data["ymax"])) / 2
        east, north = metres_per_degree(latitude)
        return Terrain(
            name="Jacksboro fault, Tennessee",
            elevation=data["elevation"][::step, ::step],
            dx=float(data["dx"]) * east * step,
            dy=float(data["dy"]) * north * step,
        )


def _sample_file(name: str) -> Path:
    try:
        from matplotlib import cbook
    except ImportError as error:
        raise DemoUnavailableError(
            f"the demo needs matplotlib, which cannot be imported ({error}); "
            'install it with: pip install "memchannel[demo]"'
        ) from error
    path = Path(str(cbook.get_sample_data(name, asfileobj=False)))
    if not path.is_file():
        raise DemoUnavailableError(
            f"matplotlib was installed without its sample data (there is no {path}); "
            "install it from PyPI: pip install --force-reinstall matplotlib"
        )
    return path
