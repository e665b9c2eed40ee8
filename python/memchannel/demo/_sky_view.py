"""The sky-view factor, as a plain Python loop over rays."""

from __future__ import annotations

import math
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

Ray = tuple[tuple[int, int, float], ...]


class Search(TypedDict):
    """Where to look for horizons: the keyword arguments of the functions below."""

    dx: float
    dy: float
    radius: float
    directions: int


def horizon_rays(*, dx: float, dy: float, radius: float, directions: int = 32) -> tuple[Ray, ...]:
    """Cells that the rays from one cell pass through, seen from that cell.

    Parameters
    ----------
    dx, dy : float
        Size of a cell in metres, eastward and southward.
    radius : float
        How far a ray looks, in metres.
    directions : int, default 32
        Number of rays, evenly spread, the first to the north, then clockwise.

    Returns
    -------
    tuple of rays
        A ray is a tuple of ``(rows, columns, distance)``: steps southward and eastward, and metres between
        the cells' centres. No distance exceeds `radius`. A ray takes the nearest cell every ``min(dx, dy)``
        metres, each cell once.

    Raises
    ------
    ValueError
        A length is not positive and finite, `radius` is below a cell's size, or `directions` is below 3.
    """
    for name, length in (("dx", dx), ("dy", dy), ("radius", radius)):
        if not 0 < length < math.inf:
            raise ValueError(f"{name} is {length!r}; give a positive number of metres")
    if radius < max(dx, dy):
        raise ValueError(f"radius is {radius!r}, less than a cell of {dx!r} x {dy!r} metres; give more")
    if directions < 3:
        raise ValueError(f"directions is {directions!r}; give at least 3")
    return tuple(_ray(2 * math.pi * k / directions, dx, dy, radius) for k in range(directions))


def _ray(azimuth: float, dx: float, dy: float, radius: float) -> Ray:
    step = min(dx, dy)
    cells: dict[tuple[int, int], float] = {}
    for k in range(1, math.ceil(radius / step) + 1):
        row = round(-k * step * math.cos(azimuth) / dy)
        column = round(k * step * math.sin(azimuth) / dx)
        distance = math.hypot(row * dy, column * dx)
        if 0 < distance <= radius:
            cells[row, column] = distance
    return tuple((row, column, distance) for (row, column), distance in cells.items())


def search_reach(*, dx: float, dy: float, radius: float, directions: int = 32) -> tuple[int, int]:
    """How many rows and how many columns away from a cell its rays look.

    The parameters are those of `horizon_rays`. The rows are the `overlap` that blocks of rows need, so that
    `sky_view_factor` finds around a block's own cells all that it looks at.
    """
    return _reach(horizon_rays(dx=dx, dy=dy, radius=radius, directions=directions))


def _reach(rays: tuple[Ray, ...]) -> tuple[int, int]:
    rows = max(abs(row) for ray in rays for row, _, _ in ray)
    columns = max(abs(column) for ray in rays for _, column, _ in ray)
    return rows, columns


def sky_view_factor(
    elevation: NDArray[Any], *, dx: float, dy: float, radius: float, directions: int = 32
) -> NDArray[np.float64]:
    r"""Part of the sky that the relief leaves visible, for each cell of an elevation model.

    Parameters
    ----------
    elevation : ndarray, shape (rows, columns), real
        Elevation in metres. NaN is a cell without data: it hides nothing, and its own result is NaN.
    dx, dy, radius, directions
        As in `horizon_rays`.

    Returns
    -------
    ndarray, shape (rows, columns), float64
        1 where nothing rises above the horizontal, towards 0 at the bottom of a deep hole. Cells nearer to
        the array's edge than the rays reach (`search_reach`) have an unknown horizon and are NaN.

    Raises
    ------
    ValueError
        `elevation` is not two-dimensional, or as in `horizon_rays`.
    TypeError
        `elevation` does not hold real numbers.

    Notes
    -----
    With :math:`\gamma_i` the elevation angle of the horizon in direction :math:`i` of :math:`n`, at least 0,
    :math:`\mathrm{SVF} = 1 - \frac{1}{n} \sum_i \sin \gamma_i`: the visible solid angle as a part of the
    hemisphere. K. Zakšek, K. Oštir, Ž. Kokalj, *Sky-View Factor as a Relief Visualization Technique*,
    Remote Sensing 3 (2011) 398-415, doi:10.3390/rs3020398.

    A cell's value is a function of the cells in its reach alone, evaluated in the same order wherever the
    cell stands in the array. So a block that brings its halo along gives the same bits as the whole array,
    and the halo's own rows, which `map_blocks` cuts off, cost nothing: they are edges of the block.
    """
    if elevation.ndim != 2:
        raise ValueError(f"elevation has shape {elevation.shape}; give an array of rows and columns")
    if elevation.dtype.kind not in "buif":
        raise TypeError(f"elevation has dtype {elevation.dtype}; give an array of real numbers, metres")
    rays = horizon_rays(dx=dx, dy=dy, radius=radius, directions=directions)
    reach_rows, reach_columns = _reach(rays)
    rows, columns = elevation.shape
    result = np.full((rows, columns), np.nan)
    # One flat list: indexing a list gives a Python number at once, indexing an array would make a new object.
    heights = elevation.astype(np.float64).ravel().tolist()
    flat_rays = [[(row * columns + column, distance) for row, column, distance in ray] for ray in rays]
    for row in range(reach_rows, rows - reach_rows):
        first = row * columns + reach_columns
        last = (row + 1) * columns - reach_columns
        if first < last:
            result[row, reach_columns : columns - reach_columns] = [
                visible_sky(heights, cell, flat_rays) for cell in range(first, last)
            ]
    return result


def visible_sky(heights: list[float], cell: int, rays: list[list[tuple[int, float]]]) -> float:
    """Sky-view factor of one cell: the inner loop of `sky_view_factor`.

    Parameters
    ----------
    heights : list of float
        All elevations, row after row.
    cell : int
        Index of the cell in it.
    rays : list of list of (int, float)
        For each direction the cells seen from here: index minus `cell`, and distance in metres.

    Returns
    -------
    float
        NaN if the cell has no data.
    """
    height = heights[cell]
    if math.isnan(height):
        return math.nan
    hidden = 0.0
    for ray in rays:
        steepest = 0.0
        for offset, distance in ray:
            slope = (heights[cell + offset] - height) / distance
            if slope > steepest:  # noqa: PLR1730 - calling max() for every sample would double the time
                steepest = slope
        if steepest > 0.0:
            hidden += steepest / math.sqrt(1.0 + steepest * steepest)  # the sine, from the tangent
    return 1.0 - hidden / len(rays)
