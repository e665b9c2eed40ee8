"""What is known of single packages: limits, refusals, and a small computation to try each with."""

from __future__ import annotations


class Package:
    """What is known of one package.

    Parameters
    ----------
    distribution : str
        Name to install it by.
    check : str
        Source that uses the package a little and raises where a result is wrong.
    limit : str
        What does not work, "" where nothing is known.
    refused : str
        Why it is not loaded at all, "" where it is.
    daemon_threads : bool
        Whether it starts daemon threads, which the interpreter must be configured to allow.
    """

    __slots__ = ("check", "daemon_threads", "distribution", "limit", "refused")

    def __init__(
        self,
        distribution: str,
        check: str = "",
        *,
        limit: str = "",
        refused: str = "",
        daemon_threads: bool = False,
    ) -> None:
        self.distribution, self.check, self.limit, self.refused = distribution, check, limit, refused
        self.daemon_threads = daemon_threads


_NUMPY = """
import numpy as np
a = np.arange(12.0).reshape(3, 4)
assert (a @ a.T)[2, 2] == 366.0
assert np.allclose(np.linalg.inv(np.eye(3) * 2), np.eye(3) / 2)
assert np.allclose(np.fft.ifft(np.fft.fft(a)).real, a)
assert np.random.default_rng(3).integers(0, 10, 5).tolist() == [8, 0, 1, 2, 1]
with np.errstate(divide="raise"):
    try:
        np.ones(2) / 0
    except FloatingPointError:
        pass
    else:
        raise AssertionError("no FloatingPointError")
"""
_SCIPY = """
import numpy as np
from scipy import fft, integrate, interpolate, linalg, ndimage, optimize
from scipy import signal, sparse, spatial, special, stats
a = np.arange(49.0).reshape(7, 7)
assert ndimage.uniform_filter(a, 3)[3, 3] == 24.0
assert ndimage.generic_filter(a, lambda block: block.max(), 3)[3, 3] == 32.0
assert np.allclose(linalg.solve(a + np.eye(7) * 9, (a + np.eye(7) * 9) @ np.ones(7)), 1)
assert np.allclose(signal.fftconvolve(a, np.ones((1, 1))), a)
assert np.allclose(sparse.csr_array(a) @ np.ones(7), a.sum(1))
assert np.allclose(fft.irfft(fft.rfft(a)[:, :4], 7), a)
assert abs(optimize.brentq(lambda x: x * x - 2, 0, 2) - 2**0.5) < 1e-9
assert optimize.linprog([1, 1], bounds=[(1, 2), (3, 4)]).fun == 4.0
assert abs(integrate.quad(lambda x: x * x, 0, 3)[0] - 9) < 1e-9
assert spatial.cKDTree(a).query(a[3])[1] == 3
assert abs(stats.norm.cdf(0) - 0.5) < 1e-12 and abs(special.gamma(5) - 24) < 1e-9
assert abs(float(interpolate.CubicSpline(range(5), range(5))(2.5)) - 2.5) < 1e-9
"""
_PANDAS = """
import io
import numpy as np
import pandas as pd
frame = pd.DataFrame({"k": list("abab"), "v": np.arange(4.0), "t": pd.date_range("2020-01-01", periods=4)})
assert frame.groupby("k").v.sum().tolist() == [2.0, 4.0]
assert pd.read_csv(io.StringIO(frame.to_csv(index=False))).v.tolist() == [0.0, 1.0, 2.0, 3.0]
assert frame.set_index("t").v.resample("2D").mean().tolist() == [0.5, 2.5]
assert frame.merge(frame, on="k").shape == (8, 5)
assert frame.v.rolling(2).apply(lambda window: window.sum()).tolist()[1:] == [1.0, 3.0, 5.0]
"""
_PYARROW = """
import io
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
table = pa.table({"x": [1, 2, None, 4], "s": ["a", "b", "a", None]})
assert pc.sum(table["x"]).as_py() == 7
assert table.group_by("s").aggregate([("x", "sum")]).num_rows == 3
buffer = io.BytesIO()
pq.write_table(table, buffer)
assert pq.read_table(io.BytesIO(buffer.getvalue())).equals(table)
assert table["x"].to_numpy()[3] == 4.0
"""
_SKIMAGE = """
import numpy as np
from skimage import filters, measure, morphology, segmentation, transform
image = np.zeros((32, 32)); image[8:16, 8:16] = 1; image[20:28, 4:12] = 1
assert measure.label(image > 0).max() == 2
assert {r.area for r in measure.regionprops(measure.label(image > 0))} == {64}
assert 0 < filters.threshold_otsu(image + np.linspace(0, 0.1, 32)) < 1
assert morphology.skeletonize(image > 0).sum() > 0
assert transform.rescale(image, 0.5).shape == (16, 16)
assert segmentation.watershed(-filters.gaussian(image), mask=image > 0).max() >= 2
"""
_SKLEARN = """
import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier
x = np.random.default_rng(0).normal(size=(80, 3)); x[40:] += 8
y = np.repeat([0, 1], 40)
assert len(set(KMeans(2, n_init=2, random_state=0).fit_predict(x)[:40])) == 1
assert RandomForestClassifier(10, random_state=0).fit(x, y).score(x, y) == 1.0
assert KNeighborsClassifier(3).fit(x, y).score(x, y) == 1.0
assert np.allclose(LinearRegression().fit(x, x @ [1, 2, 3] + 4).intercept_, 4)
assert PCA(1).fit(x).explained_variance_ratio_[0] > 0.8
"""
_PIL = """
import io
from PIL import Image, ImageDraw, ImageFilter, ImageFont
image = Image.new("RGB", (64, 48), "white")
ImageDraw.Draw(image).text((4, 4), "memory", fill="black", font=ImageFont.load_default(12))
for kind in ("PNG", "JPEG", "TIFF", "WEBP"):
    file = io.BytesIO(); image.save(file, kind)
    assert Image.open(io.BytesIO(file.getvalue())).convert("RGB").size == (64, 48)
assert image.filter(ImageFilter.GaussianBlur(2)).resize((8, 6)).size == (8, 6)
assert image.convert("L").getextrema()[0] < 128
"""
_H5PY = """
import io
import h5py
import numpy as np
a = np.arange(6000.0).reshape(60, 100)
for _ in range(20):
    file = io.BytesIO()
    with h5py.File(file, "w") as f:
        f.create_dataset("a", data=a, chunks=(10, 10), compression="gzip").attrs["unit"] = "m"
    with h5py.File(file, "r") as f:
        assert (f["a"][...] == a).all() and f["a"].attrs["unit"] == "m"
"""
_NUMBA = """
import numba
import numpy as np
@numba.njit
def total(a):
    s = 0.0
    for v in a:
        s += v
    return s
assert total(np.arange(1000.0)) == 499500.0
@numba.vectorize(["float64(float64, float64)"])
def add(x, y):
    return x + y
assert add(np.ones(3), 2).tolist() == [3.0, 3.0, 3.0]
"""
_POLARS = """
import polars as pl
frame = pl.DataFrame({"k": ["a", "b", "a"], "v": [1, 2, 3]})
assert frame.group_by("k").agg(pl.col("v").sum()).sort("k")["v"].to_list() == [4, 2]
assert frame.lazy().filter(pl.col("v") > 1).collect().height == 2
"""
_MATPLOTLIB = """
import io
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(3, 2))
axes.plot([1, 3, 2]); axes.set_title("a title"); axes.imshow([[1, 2], [3, 4]])
for kind in ("png", "pdf"):
    file = io.BytesIO(); figure.savefig(file, format=kind)
    assert len(file.getvalue()) > 1000
plt.close(figure)
"""
_LXML = """
from lxml import etree
root = etree.fromstring("<a><b x='1'>t</b><b x='2'/></a>")
assert root.xpath("//b[@x='2']")[0].get("x") == "2"
style = "<xsl:stylesheet version='1.0' xmlns:xsl='http://www.w3.org/1999/XSL/Transform'/>"
assert str(etree.XSLT(etree.fromstring(style))(root)).endswith("t\\n")
"""
_MSGSPEC = """
import msgspec
class Point(msgspec.Struct):
    x: int
    y: float = 1.5
assert msgspec.json.decode(msgspec.json.encode(Point(3)), type=Point) == Point(3)
assert msgspec.msgpack.decode(msgspec.msgpack.encode({"a": [1, 2]})) == {"a": [1, 2]}
"""
_ML_DTYPES = """
import ml_dtypes
import numpy as np
a = np.arange(4, dtype=ml_dtypes.bfloat16)
assert (a + a).astype("f4").tolist() == [0.0, 2.0, 4.0, 6.0]
assert np.array([0.5], ml_dtypes.float8_e4m3fn).astype("f8")[0] == 0.5
"""
_ZARR = """
import numpy as np
import zarr
a = zarr.create_array(store=zarr.storage.MemoryStore(), shape=(100, 100), chunks=(10, 10), dtype="f8")
a[:] = np.arange(10000.0).reshape(100, 100)
assert a[50, 50] == 5050.0 and a[:].sum() == 49995000.0
"""

# By import name. Those with a check were run: two interpreters, both at once, destruction, process exit.
PACKAGES: dict[str, Package] = {
    "numpy": Package("numpy", _NUMPY),
    "scipy": Package("scipy", _SCIPY),
    "pandas": Package("pandas", _PANDAS),
    "pyarrow": Package("pyarrow", _PYARROW),
    "skimage": Package("scikit-image", _SKIMAGE),
    "sklearn": Package("scikit-learn", _SKLEARN),
    "PIL": Package("pillow", _PIL),
    "h5py": Package("h5py", _H5PY),
    "numba": Package("numba", _NUMBA),
    "polars": Package("polars", _POLARS),
    "matplotlib": Package("matplotlib", _MATPLOTLIB),
    "lxml": Package("lxml", _LXML),
    "msgspec": Package("msgspec", _MSGSPEC),
    "orjson": Package(
        "orjson", "import orjson; assert orjson.loads(orjson.dumps({'a': [1, 2.5]})) == {'a': [1, 2.5]}"
    ),
    "ml_dtypes": Package("ml-dtypes", _ML_DTYPES),
    "numexpr": Package(
        "numexpr",
        "import numexpr, numpy as np; a = np.arange(1e5); assert (numexpr.evaluate('2*a') == 2 * a).all()",
    ),
    "uvloop": Package(
        "uvloop",
        refused="its event loop handles signals, which Python gives to the main interpreter only "
        "(signal.set_wakeup_fd); asyncio's own loop works",
    ),
    "zarr": Package("zarr", _ZARR, daemon_threads=True),
    "yaml": Package(
        "pyyaml", "import yaml; assert yaml.load('a: [1, 2]', yaml.CSafeLoader) == {'a': [1, 2]}"
    ),
}


def import_name(distribution: str) -> str | None:
    """Return the name by which a distribution's package is imported, where it differs and is known."""
    wanted = distribution.lower().replace("_", "-")
    for name, package in PACKAGES.items():
        if package.distribution == wanted and name != distribution:
            return name
    return None
