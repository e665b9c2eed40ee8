"""Small computations, each of which uses a package a little and raises where a result is wrong."""

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
_CV2 = """
import cv2
import numpy as np
a = np.zeros((64, 64, 3), "u1")
a[8:20, 8:20] = 255
assert cv2.GaussianBlur(a, (5, 5), 0)[12, 12, 0] == 255
assert (cv2.imdecode(cv2.imencode(".png", a)[1], cv2.IMREAD_COLOR) == a).all()
assert len(cv2.findContours(a[..., 0].copy(), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]) == 1
"""
_SHAPELY = """
import shapely
from shapely.geometry import Point
assert abs(Point(0, 0).buffer(1, quad_segs=64).area - 3.1415) < 1e-2
assert 3 in shapely.STRtree([Point(i, i) for i in range(50)]).query(Point(3, 3).buffer(1))
assert shapely.area(shapely.box([0, 1], 0, [2, 3], 2)).tolist() == [4.0, 4.0]
"""
_PYPROJ = """
import pyproj
x, y = pyproj.Transformer.from_crs(4326, 3857).transform(0, 10)
assert abs(x - 1113194.9) < 0.1 and abs(y) < 1e-6
"""
_RASTERIO = """
import numpy as np
from rasterio.io import MemoryFile
a = np.arange(4096, dtype="f4").reshape(1, 64, 64)
for _ in range(5):
    with MemoryFile() as file:
        with file.open(driver="GTiff", width=64, height=64, count=1, dtype="f4", crs="EPSG:32633") as dataset:
            dataset.write(a)
        with file.open() as dataset:
            assert (dataset.read() == a).all() and dataset.crs.to_epsg() == 32633
"""
_NETCDF4 = """
import netCDF4
import numpy as np
for _ in range(10):
    dataset = netCDF4.Dataset("in-memory.nc", "w", diskless=True)
    dataset.createDimension("x", 100)
    dataset.createVariable("v", "f8", ("x",), zlib=True)[:] = np.arange(100.0)
    assert dataset["v"][:].sum() == 4950.0
    dataset.close()
"""
_TABLES = """
import numpy as np
import tables
for _ in range(5):
    file = tables.open_file("in-memory.h5", "w", driver="H5FD_CORE", driver_core_backing_store=0)
    array = file.create_carray("/", "a", obj=np.arange(1000.0), filters=tables.Filters(5, "zlib"))
    assert array[:].sum() == 499500.0
    file.close()
"""
_STATSMODELS = """
import numpy as np
import statsmodels.api as sm
x = np.arange(20.0)
assert abs(sm.OLS(2 * x + 1, sm.add_constant(x)).fit().params[1] - 2) < 1e-9
"""
_XARRAY = """
import numpy as np
import xarray as xr
a = xr.DataArray(np.arange(12.0).reshape(3, 4), dims=("y", "x"), coords={"x": list("abcd")})
assert a.mean("y").sel(x="c") == 6.0 and a.rolling(x=2).sum().isel(y=0, x=1) == 1.0
"""
_ASTROPY = """
import io
import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.time import Time
assert (3 * u.km).to(u.m).value == 3000.0
assert Time("2000-01-01 12:00", scale="tt").jd == 2451545.0
file = io.BytesIO()
fits.PrimaryHDU(np.arange(6.0).reshape(2, 3)).writeto(file)
assert fits.getdata(io.BytesIO(file.getvalue())).sum() == 15.0
"""
_PYWT = """
import numpy as np
import pywt
a = np.arange(64.0).reshape(8, 8)
assert np.allclose(pywt.idwt2(pywt.dwt2(a, "db2"), "db2"), a)
"""
_ORJSON = """
import orjson
assert orjson.loads(orjson.dumps({'a': [1, 2.5]})) == {'a': [1, 2.5]}
"""
_NUMEXPR = """
import numexpr, numpy as np
a = np.arange(1e5)
assert (numexpr.evaluate('2*a') == 2 * a).all()
"""
_BOTTLENECK = """
import bottleneck, numpy
assert bottleneck.move_mean(numpy.arange(9.0), 3)[-1] == 7.0
"""
_YAML = """
import yaml
assert yaml.load('a: [1, 2]', yaml.CSafeLoader) == {'a': [1, 2]}
"""

CHECKS: dict[str, str] = {
    "numpy": _NUMPY,
    "scipy": _SCIPY,
    "pandas": _PANDAS,
    "pyarrow": _PYARROW,
    "skimage": _SKIMAGE,
    "sklearn": _SKLEARN,
    "PIL": _PIL,
    "h5py": _H5PY,
    "numba": _NUMBA,
    "polars": _POLARS,
    "matplotlib": _MATPLOTLIB,
    "lxml": _LXML,
    "msgspec": _MSGSPEC,
    "orjson": _ORJSON,
    "ml_dtypes": _ML_DTYPES,
    "numexpr": _NUMEXPR,
    "zarr": _ZARR,
    "cv2": _CV2,
    "shapely": _SHAPELY,
    "pyproj": _PYPROJ,
    "rasterio": _RASTERIO,
    "netCDF4": _NETCDF4,
    "tables": _TABLES,
    "bottleneck": _BOTTLENECK,
    "statsmodels": _STATSMODELS,
    "xarray": _XARRAY,
    "astropy": _ASTROPY,
    "pywt": _PYWT,
    "yaml": _YAML,
}
