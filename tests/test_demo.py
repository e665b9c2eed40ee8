"""The demo's terrain and sky-view factor: against closed forms, an independent reference, and in blocks."""

from __future__ import annotations

import itertools
import math
import sys
from typing import TypedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from memchannel import demo


class Cell(TypedDict):
    dx: float
    dy: float


CELL: Cell = {"dx": 30.0, "dy": 30.0}


def at_centre(
    elevation: NDArray[np.float64], *, dx: float, dy: float, radius: float, directions: int = 32
) -> float:
    """The sky-view factor of the middle cell of a square array."""
    rows, columns = elevation.shape
    result = demo.sky_view_factor(elevation, dx=dx, dy=dy, radius=radius, directions=directions)
    return float(result[rows // 2, columns // 2])


def distances(cells: int, dx: float, dy: float) -> NDArray[np.float64]:
    """Metres from the middle cell of a square array of ``2 * cells + 1`` rows and columns."""
    steps = np.arange(-cells, cells + 1)
    found: NDArray[np.float64] = np.hypot(steps[:, None] * dy, steps[None, :] * dx)
    return found


def reference(elevation: NDArray[np.float64], rays: tuple[demo.Ray, ...]) -> NDArray[np.float64]:
    """The same quantity the other way round: the whole array shifted once for each cell of each ray."""
    rows, columns = elevation.shape
    pad = max(max(abs(down), abs(right)) for ray in rays for down, right, _ in ray)
    # A cell beyond the edge is NaN, and stays so in the maximum.
    padded = np.pad(elevation, pad, constant_values=np.nan)
    total = np.zeros_like(elevation)
    for ray in rays:
        horizon = np.zeros_like(elevation)
        for down, right, distance in ray:
            seen = padded[pad + down : pad + down + rows, pad + right : pad + right + columns]
            horizon = np.maximum(horizon, np.arctan2(seen - elevation, distance))
        total += np.sin(horizon)
    return 1 - total / len(rays)


class TestSkyViewFactor:
    def test_plain_sees_the_whole_sky(self) -> None:
        assert at_centre(np.full((21, 21), 300.0), **CELL, radius=300.0) == 1.0

    def test_summit_sees_the_whole_sky(self) -> None:
        assert at_centre(1000.0 - distances(10, 30.0, 30.0), **CELL, radius=300.0) == 1.0

    @pytest.mark.parametrize(("dx", "dy"), [(30.0, 30.0), (75.0, 92.5)])
    @pytest.mark.parametrize("slope", [0.1, 1.0, 4.0])
    @pytest.mark.parametrize("directions", [8, 32, 33])
    def test_bottom_of_a_cone(self, dx: float, dy: float, slope: float, directions: int) -> None:
        """Every horizon of a funnel's tip has the funnel's slope: 1 - sin(arctan(slope))."""
        funnel = slope * distances(12, dx, dy)
        found = at_centre(funnel, dx=dx, dy=dy, radius=10 * dx, directions=directions)
        assert found == pytest.approx(1 - math.sin(math.atan(slope)), abs=1e-14)

    def test_middle_of_a_round_pit(self) -> None:
        """A vertical wall all around: the tangent of the horizon is its height over its distance."""
        wall, height = 210.0, 150.0
        pit = np.where(distances(14, 1.0, 1.0) * 30.0 < wall, 0.0, height)
        found = at_centre(pit, **CELL, radius=400.0, directions=64)
        # No cell of the wall is nearer than `wall`, and a ray meets it within a cell's diagonal.
        nearest = 1 - math.sin(math.atan2(height, wall))
        farthest = 1 - math.sin(math.atan2(height, wall + 30.0 * math.sqrt(2)))
        assert nearest <= found <= farthest

    def test_foot_of_a_long_wall(self) -> None:
        """A straight wall to the north: the horizon's tangent is height * cos(azimuth) / distance."""
        height, rows_away = 200.0, 3
        terrain = np.zeros((81, 81))
        terrain[: 40 - rows_away + 1] = height
        directions = 64
        found = at_centre(terrain, **CELL, radius=1200.0, directions=directions)
        hidden = 0.0
        for k in range(directions):
            cosine = math.cos(2 * math.pi * k / directions)
            if cosine > rows_away * 30.0 / 1200.0:
                hidden += math.sin(math.atan(height * cosine / (rows_away * 30.0)))
        # A ray takes the nearest cell, half a cell to the side at most.
        assert found == pytest.approx(1 - hidden / directions, abs=0.01)

    def test_relief_beyond_the_radius_does_not_count(self) -> None:
        terrain = np.zeros((41, 41))
        terrain[distances(20, 30.0, 30.0) > 300.0] = 5000.0
        assert at_centre(terrain, **CELL, radius=300.0) == 1.0
        assert at_centre(terrain, **CELL, radius=360.0) < 0.5

    @settings(deadline=None)
    @given(
        elevation=arrays(np.float64, (9, 11), elements=st.floats(-500, 9000, width=32)),
        dx=st.sampled_from([10.0, 30.0, 74.6]),
        dy=st.sampled_from([10.0, 30.0, 92.5]),
        cells=st.floats(1.0, 4.0),
        directions=st.integers(3, 24),
    )
    def test_agrees_with_shifted_arrays(
        self, elevation: NDArray[np.float64], dx: float, dy: float, cells: float, directions: int
    ) -> None:
        search = demo.Search(dx=dx, dy=dy, radius=cells * max(dx, dy), directions=directions)
        rows, columns = demo.search_reach(**search)
        found = demo.sky_view_factor(elevation, **search)
        expected = reference(elevation, demo.horizon_rays(**search))
        inner = np.s_[rows : 9 - rows, columns : 11 - columns]
        np.testing.assert_allclose(found[inner], expected[inner], rtol=0, atol=1e-12)
        assert np.isnan(found).sum() == found.size - found[inner].size

    def test_cell_without_data(self) -> None:
        funnel = distances(12, 30.0, 30.0)
        search = demo.Search(dx=30.0, dy=30.0, radius=150.0, directions=32)
        without = demo.sky_view_factor(funnel, **search)
        funnel[0, 12] = np.nan  # in reach of no cell that has a value but those of its column
        funnel[12, 14] = np.nan
        found = demo.sky_view_factor(funnel, **search)
        assert math.isnan(found[12, 14])
        assert found[12, 12] == without[12, 12]  # the rest of that ray is as steep
        assert np.isnan(found).sum() == np.isnan(without).sum() + 1

    @pytest.mark.parametrize("dtype", ["i2", ">i2", "u1", "f4", "f8", "?"])
    def test_dtype_does_not_matter(self, dtype: str) -> None:
        heights = np.random.default_rng(7).integers(0, 2, (12, 12)).astype(dtype)
        search = demo.Search(dx=30.0, dy=30.0, radius=90.0, directions=32)
        expected = demo.sky_view_factor(heights.astype("f8"), **search)
        assert demo.sky_view_factor(heights, **search).tobytes() == expected.tobytes()

    @pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (6, 50), (50, 6), (7, 7)])
    def test_array_smaller_than_the_search(self, shape: tuple[int, int]) -> None:
        found = demo.sky_view_factor(np.zeros(shape), **CELL, radius=90.0)
        assert found.shape == shape
        assert np.isfinite(found).sum() == max(shape[0] - 6, 0) * max(shape[1] - 6, 0)

    def test_refuses_bad_input(self) -> None:
        flat = np.zeros((5, 5))
        with pytest.raises(ValueError, match=r"shape \(5,\)"):
            demo.sky_view_factor(flat[0], **CELL, radius=60.0)
        with pytest.raises(TypeError, match="complex128"):
            demo.sky_view_factor(flat * 1j, **CELL, radius=60.0)
        with pytest.raises(ValueError, match="dx is -30"):
            demo.sky_view_factor(flat, dx=-30.0, dy=30.0, radius=60.0)
        with pytest.raises(ValueError, match="dy is nan"):
            demo.sky_view_factor(flat, dx=30.0, dy=math.nan, radius=60.0)
        with pytest.raises(ValueError, match="radius is inf"):
            demo.sky_view_factor(flat, **CELL, radius=math.inf)
        with pytest.raises(ValueError, match=r"radius is 29\.0, less than a cell"):
            demo.sky_view_factor(flat, **CELL, radius=29.0)
        with pytest.raises(ValueError, match="directions is 2"):
            demo.sky_view_factor(flat, **CELL, radius=60.0, directions=2)


class TestRays:
    @settings(deadline=None)
    @given(dx=st.floats(20, 100), dy=st.floats(20, 100), cells=st.floats(1, 8), directions=st.integers(3, 33))
    def test_stay_within_the_radius_and_repeat_no_cell(
        self, dx: float, dy: float, cells: float, directions: int
    ) -> None:
        radius = cells * max(dx, dy)
        rays = demo.horizon_rays(dx=dx, dy=dy, radius=radius, directions=directions)
        assert len(rays) == directions
        for ray in rays:
            places = [(row, column) for row, column, _ in ray]
            assert len(places) == len(set(places))
            for row, column, distance in ray:
                assert 0 < distance <= radius
                assert distance == math.hypot(row * dy, column * dx)

    @settings(deadline=None)
    @given(dx=st.floats(20, 100), dy=st.floats(20, 100), cells=st.floats(1, 8), directions=st.integers(3, 33))
    def test_follow_their_azimuth(self, dx: float, dy: float, cells: float, directions: int) -> None:
        """Every cell is the nearest to a point of the straight line, and no point is left out."""
        radius = cells * max(dx, dy)
        rays = demo.horizon_rays(dx=dx, dy=dy, radius=radius, directions=directions)
        lengths = np.arange(int(radius / min(dx, dy)) + 2) * min(dx, dy)
        surely_inside = lengths <= radius - math.hypot(dx, dy) / 2
        for k, ray in enumerate(rays):
            azimuth = 2 * math.pi * k / directions
            points = np.stack([-lengths * math.cos(azimuth) / dy, lengths * math.sin(azimuth) / dx], axis=1)
            places = np.array([(0, 0), *((row, column) for row, column, _ in ray)])
            close = np.abs(points[:, None] - places[None]).max(axis=2) <= 0.5 + 1e-9
            assert close.any(axis=0).all()
            assert close.any(axis=1)[surely_inside].all()

    def test_first_looks_north_second_quarter_east(self) -> None:
        north, east, south, west = demo.horizon_rays(**CELL, radius=60.0, directions=4)
        assert north == ((-1, 0, 30.0), (-2, 0, 60.0))
        assert east == ((0, 1, 30.0), (0, 2, 60.0))
        assert south == ((1, 0, 30.0), (2, 0, 60.0))
        assert west == ((0, -1, 30.0), (0, -2, 60.0))

    def test_reach_is_what_the_rays_need(self) -> None:
        assert demo.search_reach(dx=75.0, dy=92.5, radius=2000.0) == (21, 26)


@st.composite
def cut_terrain(draw: st.DrawFn) -> tuple[NDArray[np.int16], list[int]]:
    rows = draw(st.integers(1, 30))
    elevation = draw(arrays(np.int16, (rows, draw(st.integers(1, 14)))))
    inner = draw(st.sets(st.integers(1, rows - 1))) if rows > 1 else set()
    return elevation, [0, *sorted(inner), rows]


@settings(deadline=None)
@given(terrain=cut_terrain(), radius=st.sampled_from([30.0, 75.0, 120.0]))
def test_blocks_with_halo_give_the_bits_of_the_whole(
    terrain: tuple[NDArray[np.int16], list[int]], radius: float
) -> None:
    elevation, cuts = terrain
    search = demo.Search(dx=30.0, dy=30.0, radius=radius, directions=8)
    whole = demo.sky_view_factor(elevation, **search)
    halo, _ = demo.search_reach(**search)
    pieces = []
    for first, last in itertools.pairwise(cuts):
        start = max(0, first - halo)
        block = demo.sky_view_factor(elevation[start : last + halo], **search)
        pieces.append(block[first - start : last - start])
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


class TestTerrain:
    @pytest.mark.parametrize(
        ("latitude", "east", "north"),
        # As printed in tables of WGS 84, rounded to a metre.
        [(0, 111_320, 110_574), (45, 78_847, 111_132), (60, 55_800, 111_412), (90, 0, 111_694)],
    )
    def test_length_of_a_degree(self, latitude: float, east: float, north: float) -> None:
        assert demo.metres_per_degree(latitude) == pytest.approx((east, north), abs=1)
        assert demo.metres_per_degree(-latitude) == demo.metres_per_degree(latitude)

    def test_latitude_out_of_range(self) -> None:
        with pytest.raises(ValueError, match=r"latitude is 90\.5"):
            demo.metres_per_degree(90.5)

    def test_real_model(self) -> None:
        terrain = demo.load_jacksboro()
        assert terrain.elevation.shape == (344, 403)
        assert terrain.elevation.min() == 236
        assert terrain.elevation.max() == 1076
        assert (terrain.dx, terrain.dy) == pytest.approx((74.57, 92.47), abs=0.01)

    def test_coarser_model_covers_the_same_ground(self) -> None:
        fine, coarse = demo.load_jacksboro(), demo.load_jacksboro(4)
        assert np.array_equal(coarse.elevation, fine.elevation[::4, ::4])
        assert (coarse.dx, coarse.dy) == pytest.approx((4 * fine.dx, 4 * fine.dy))

    def test_step_below_one(self) -> None:
        with pytest.raises(ValueError, match="step is 0"):
            demo.load_jacksboro(0)

    def test_without_matplotlib(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setitem(sys.modules, "matplotlib.cbook", None)
        with pytest.raises(demo.DemoUnavailableError, match=r"memchannel\[demo\]"):
            demo.load_jacksboro()


class TestPicture:
    def test_shows_both_fields(self) -> None:
        terrain = demo.load_jacksboro(8)
        sky_view = demo.sky_view_factor(terrain.elevation, **terrain.search(radius=2000.0))
        figure = demo.draw(terrain, sky_view)
        assert [axes.get_title() for axes in figure.axes[:2]] == ["Elevation", "Sky-view factor"]
        shown = figure.axes[1].images[0].get_array()
        assert shown is not None
        assert np.array_equal(np.ma.filled(shown, np.nan), sky_view, equal_nan=True)
        height_in_km = terrain.elevation.shape[0] * terrain.dy / 1000
        assert figure.axes[0].get_ylim() == pytest.approx((0, height_in_km))

    def test_shapes_must_agree(self) -> None:
        terrain = demo.load_jacksboro(8)
        with pytest.raises(ValueError, match=r"\(3, 3\)"):
            demo.draw(terrain, np.zeros((3, 3)))
