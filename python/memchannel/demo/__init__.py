"""A real job to try memchannel on: the sky-view factor of a real digital elevation model.

    terrain = load_jacksboro()                           # 344 x 403 cells
    search = terrain.search(radius=2000.0)               # metres
    svf = sky_view_factor(terrain.elevation, **search)   # a Python loop over rays: slow under one GIL
    rows, columns = search_reach(**search)               # the rows are `map_blocks`'s overlap
    figure = draw(terrain, svf)                          # hill-shaded picture of both

`memchannel demo` and the notebook `parallel_terrain.ipynb` run it serially and in parallel.
The data and the picture need matplotlib: ``pip install "memchannel[demo]"``.
"""

from memchannel.demo._picture import draw
from memchannel.demo._sky_view import Ray, Search, horizon_rays, search_reach, sky_view_factor, visible_sky
from memchannel.demo._terrain import DemoUnavailableError, Terrain, load_jacksboro, metres_per_degree

__all__ = [
    "DemoUnavailableError",
    "Ray",
    "Search",
    "Terrain",
    "draw",
    "horizon_rays",
    "load_jacksboro",
    "metres_per_degree",
    "search_reach",
    "sky_view_factor",
    "visible_sky",
]
