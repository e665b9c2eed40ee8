"""The picture: hill-shaded elevation beside the sky-view factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memchannel.demo._terrain import Terrain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

_NO_RESULT = "0.85"  # grey of the frame whose horizon is unknown
_EXAGGERATION = 3  # of the heights, for the shading alone


def draw(terrain: Terrain, sky_view: NDArray[np.float64]) -> Figure:
    """Draw the elevation model, lit from the north-west, and its sky-view factor side by side.

    Parameters
    ----------
    terrain : Terrain
        The model.
    sky_view : ndarray, shape of ``terrain.elevation``, float64
        What `sky_view_factor` made of it; NaN is left grey.

    Returns
    -------
    matplotlib.figure.Figure
        Not registered with pyplot: ``figure.savefig("terrain.png")`` needs no display.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if sky_view.shape != terrain.elevation.shape:
        raise ValueError(
            f"sky_view has shape {sky_view.shape} and the terrain {terrain.elevation.shape}; give equal ones"
        )
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), layout="constrained")
    figure.suptitle(terrain.name, fontsize=14)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    extent = _extent_km(terrain)
    _finish(left, _draw_relief(left, terrain, extent), "Elevation", "metres above sea level")
    _finish(right, _draw_sky_view(right, sky_view, extent), "Sky-view factor", "visible part of the sky")
    left.set_ylabel("km")
    return figure


def _extent_km(terrain: Terrain) -> tuple[float, float, float, float]:
    rows, columns = terrain.elevation.shape
    return 0.0, columns * terrain.dx / 1000, 0.0, rows * terrain.dy / 1000


def _draw_relief(axes: Axes, terrain: Terrain, extent: tuple[float, float, float, float]) -> ScalarMappable:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LightSource, LinearSegmentedColormap, Normalize

    heights = terrain.elevation.astype(np.float64)
    # The lower quarter of "gist_earth" is the blue of the sea, and there is none here.
    land = LinearSegmentedColormap.from_list("land", colormaps["gist_earth"](np.linspace(0.25, 1, 256)))
    norm = Normalize(float(heights.min()), float(heights.max()))
    light = LightSource(azdeg=315, altdeg=45)
    shaded = light.shade(
        heights, land, norm=norm, blend_mode="soft", vert_exag=_EXAGGERATION, dx=terrain.dx, dy=terrain.dy
    )
    axes.imshow(shaded, extent=extent)
    return ScalarMappable(norm, land)


def _draw_sky_view(
    axes: Axes, sky_view: NDArray[np.float64], extent: tuple[float, float, float, float]
) -> ScalarMappable:
    axes.set_facecolor(_NO_RESULT)
    known = sky_view[np.isfinite(sky_view)]
    if known.size < sky_view.size:
        caption = "grey: within the search radius of the edge"
        axes.text(0.5, 0.03, caption, transform=axes.transAxes, ha="center", va="center", fontsize=8)
    # A few deep cells would take the contrast from all others.
    darkest = float(np.quantile(known, 0.005)) if known.size else 0.0
    return axes.imshow(sky_view, cmap="bone", vmin=darkest, vmax=1.0, extent=extent)


def _finish(axes: Axes, colours: ScalarMappable, title: str, unit: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("km")
    axes.figure.colorbar(colours, ax=axes, label=unit, shrink=0.8)
