"""Downloads from a small server on this machine: what can go wrong, and what is left after it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pooch
import pytest
from PIL import Image
from scipy import sparse

from genot_helpers import load_slice
from genot_helpers.datasets import DownloadError
from genot_helpers.datasets.downloads import (
    download_dir,
    fetch,
    fetch_file,
    public_slices,
    read_registry,
    slice_files,
)

COLUMNS = ["dataset", "file", "url", "sha256", "bytes", "shape", "note"]


class Site:
    """What the server has (path -> content), how it behaves, and what it was asked for.

    ``broken``: path -> number of bytes after which the connection is cut, once.
    """

    def __init__(self, address: str):
        self.address = address
        self.files: dict[str, bytes] = {}
        self.broken: dict[str, int] = {}
        self.asked: list[str] = []

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.lstrip("/")
            site.asked.append(path)
            if path not in site.files:
                self.send_error(404)
                return
            body = site.files[path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: site.broken.pop(path, len(body))])

        def log_message(self, *_):
            pass

    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def h5ad_bytes(n: int = 30, seed: int = 0, **obs) -> bytes:
    rng = np.random.default_rng(seed)
    adata = ad.AnnData(rng.poisson(1.0, (n, 4)).astype("float32") + 1)
    adata.obsm["spatial"] = np.column_stack([np.arange(n), rng.random(n)])
    for key, value in obs.items():
        adata.obs[key] = value
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        ad.io.write_elem(file, "/", adata)
        file.pop("raw", None)
    return buffer.getvalue()


def write_registry(path: Path, rows: list[dict]) -> Path:
    table = pd.DataFrame(rows).reindex(columns=COLUMNS).fillna("")
    table.to_csv(path, sep="\t", index=False)
    return path


def left_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# --- one file -------------------------------------------------------------------------------------


def test_a_good_file_arrives_and_is_not_fetched_twice(site, tmp_path):
    body = site.files["a.json"] = b'{"x": 1}'
    path = tmp_path / "new" / "a.json"
    for _ in range(2):
        fetch_file(site.url("a.json"), path, sha256=sha256(body), size=len(body))
    assert path.read_bytes() == body
    assert site.asked == ["a.json"]
    assert left_in(tmp_path) == ["new/a.json"]  # the hash is known: nothing to write down


def test_wrong_hash(site, tmp_path):
    site.files["a.json"] = b'{"x": 1}'
    with pytest.raises(DownloadError, match=r"SHA-256 .* instead of 0{64}") as caught:
        fetch_file(site.url("a.json"), tmp_path / "a.json", sha256="0" * 64)
    assert left_in(tmp_path) == []
    text = str(caught.value)
    for part in (site.url("a.json"), str(tmp_path / "a.json"), "By hand", "data_source='demo'"):
        assert part in text


def test_wrong_size(site, tmp_path):
    site.files["a.json"] = b'{"x": 1}'
    with pytest.raises(DownloadError, match="8 bytes instead of 1,234"):
        fetch_file(site.url("a.json"), tmp_path / "a.json", size="1234")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("known", [True, False])
def test_truncated_body_then_a_clean_restart(site, tmp_path, known):
    body = site.files["a.h5ad"] = h5ad_bytes()
    site.broken["a.h5ad"] = len(body) // 2
    facts = {"sha256": sha256(body)} if known else {"shape": "30x4"}
    with pytest.raises(DownloadError, match="broke off"):
        fetch_file(site.url("a.h5ad"), tmp_path / "a.h5ad", **facts)
    assert left_in(tmp_path) == []
    fetch_file(site.url("a.h5ad"), tmp_path / "a.h5ad", **facts)
    assert (tmp_path / "a.h5ad").read_bytes() == body


def test_not_found(site, tmp_path):
    with pytest.raises(DownloadError, match="the server answered 404"):
        fetch_file(site.url("gone.h5ad"), tmp_path / "a.h5ad")
    assert left_in(tmp_path) == []


def test_connection_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DownloadError, match="no connection to the server") as caught:
        fetch_file(f"http://127.0.0.1:{port}/a.h5ad", tmp_path / "a.h5ad")
    assert "data_source='demo'" in str(caught.value)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    "stop", [KeyboardInterrupt, OSError(28, "No space left")], ids=["Ctrl-C", "full disk"]
)
def test_interrupted_then_restarted(site, tmp_path, monkeypatch, stop):
    body = site.files["a.json"] = b'{"x": 1}'

    def half(self, url, output_file, pooch):
        Path(output_file).write_bytes(body[:4])
        raise stop

    path = tmp_path / "a.json"
    with monkeypatch.context() as patch:
        patch.setattr(pooch.HTTPDownloader, "__call__", half)
        with pytest.raises((KeyboardInterrupt, DownloadError)) as caught:
            fetch_file(site.url("a.json"), path)
    assert caught.type is KeyboardInterrupt or "the disk is full" in str(caught.value)
    assert left_in(tmp_path) == []
    fetch_file(site.url("a.json"), path)
    assert path.read_bytes() == body


KILLED = """
import sys
from genot_helpers.datasets.downloads import fetch_file
fetch_file(sys.argv[1], sys.argv[2])
"""


def test_a_killed_download_leaves_no_file_that_counts(tmp_path):
    """The process is killed while the server keeps it waiting for the second half."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.json"
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "NO_PROXY": "127.0.0.1"}
        path = tmp_path / "a.json"
        process = subprocess.Popen([sys.executable, "-c", KILLED, url, str(path)], env=env)
        server.settimeout(60)
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            connection.sendall(b"x" * 500_000)
            deadline = time.monotonic() + 30
            while not any(p.stat().st_size for p in tmp_path.iterdir()):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.kill()
            process.wait(30)
    assert not path.exists()
    assert [name for name in left_in(tmp_path) if not name.endswith(".part.json")] == []


def test_unknown_hash_is_written_down_and_has_to_stay(site, tmp_path):
    body = site.files["a.h5ad"] = h5ad_bytes()
    path = tmp_path / "a.h5ad"
    fetch_file(site.url("a.h5ad"), path, shape="30x4")
    note = tmp_path / "a.h5ad.sha256"
    assert note.read_text() == f"{sha256(body)}  a.h5ad\n"
    fetch_file(site.url("a.h5ad"), path, shape="30x4")
    path.write_bytes(h5ad_bytes(seed=1))
    with pytest.raises(DownloadError, match="seen on first use") as caught:
        fetch_file(site.url("a.h5ad"), path, shape="30x4")
    assert "Move it away" in str(caught.value)
    assert path.read_bytes() == h5ad_bytes(seed=1)  # never overwritten
    path.unlink()
    site.files["a.h5ad"] = h5ad_bytes(seed=2)  # the public file has changed since
    with pytest.raises(DownloadError, match="seen on first use"):
        fetch_file(site.url("a.h5ad"), path, shape="30x4")
    assert not path.exists()


def png_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def tar_bytes(names: list[str], body: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


WEB_PAGE = b"<!DOCTYPE html><html>Sorry, we moved</html>"


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a.h5ad", h5ad_bytes()),
        ("a.json", b"{}"),
        ("a.png", png_bytes()),
        ("a.tsv", b"x\t1\n"),
        ("a.tar.gz", tar_bytes(["spatial/x"])),
    ],
    ids=["h5ad", "json", "png", "tsv", "tar.gz"],
)
def test_a_web_page_in_place_of_the_file_is_noticed(site, tmp_path, name, good):
    site.files[name] = WEB_PAGE
    with pytest.raises(DownloadError, match="damaged, or no"):
        fetch_file(site.url(name), tmp_path / name)
    assert left_in(tmp_path) == []
    site.files[name] = good
    fetch_file(site.url(name), tmp_path / name)
    assert left_in(tmp_path) == [name, f"{name}.sha256"]


def test_wrong_shape(site, tmp_path):
    site.files["a.h5ad"] = h5ad_bytes(n=20)
    with pytest.raises(DownloadError, match=r"20x4 \(spots x genes\) instead of 30x4"):
        fetch_file(site.url("a.h5ad"), tmp_path / "a.h5ad", shape="30x4")


def test_a_folder_that_cannot_be_written(site, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="Cannot write to the folder"):
        fetch_file(site.url("a.json"), tmp_path / "file" / "a.json")
    assert site.asked == []


# --- whole slices ---------------------------------------------------------------------------------


def tenx_bytes(n: int = 24) -> tuple[bytes, list[str]]:
    """Make a 10x matrix of n spots by 3 genes."""
    names = [f"{'ACGT'[i % 4] * 8}{i:04d}-1" for i in range(n)]
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        group = file.create_group("matrix")
        group["data"] = np.arange(1, 3 * n + 1, dtype="int32")
        group["indices"] = np.tile(np.arange(3), n)
        group["indptr"] = np.arange(0, 3 * n + 1, 3)
        group["shape"] = np.array([3, n], dtype="int32")
        group["barcodes"] = np.array(names, dtype="S")
        features = group.create_group("features")
        features["id"] = np.array(["E1", "E2", "E3"], dtype="S")
        features["name"] = np.array(["MBP", "PCP4", "SNAP25"], dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * 3, dtype="S")
        features["genome"] = np.array(["GRCh38"] * 3, dtype="S")
    return buffer.getvalue(), names


def positions_csv(names: list[str]) -> bytes:
    return "".join(
        f"{name},1,{i // 6},{2 * (i % 6) + i // 6 % 2},{10 * (i // 6)},{7 * (i % 6)}\n"
        for i, name in enumerate(names)
    ).encode()


@pytest.fixture
def cortex(site, tmp_path) -> Path:
    """Put one section on the site, under the public names; two of five hashes are known."""
    matrix, names = tenx_bytes()
    factors = {"spot_diameter_fullres": 5.0, "tissue_lowres_scalef": 0.1}
    site.files |= {
        "151673/scalefactors_json.json": json.dumps(factors).encode(),
        "151673/tissue_lowres_image.png": png_bytes(),
        "151673/tissue_positions_list.txt": positions_csv(names),
        "map.tsv": "".join(
            f"{name}\t151673\tL{1 + i % 2}\n" for i, name in enumerate(names)
        ).encode(),
        "h5/151673_filtered_feature_bc_matrix.h5": matrix,
    }
    known = {"151673/tissue_lowres_image.png", "map.tsv"}
    rows = []
    for path, body in site.files.items():
        file = "barcode_level_layer_map.tsv" if path == "map.tsv" else path
        file = file.replace("h5/151673_", "151673/")
        row = {"dataset": "dlpfc", "file": file, "url": site.url(path)}
        row["sha256"] = sha256(body) if path in known else ""
        row["shape"] = "24x3" if path.endswith(".h5") else ""
        rows.append(row)
    return write_registry(tmp_path / "registry.tsv", rows)


def test_a_downloaded_section_is_laid_out_like_a_local_one(site, cortex, tmp_path):
    options = {"registry": cortex, "data_dir": tmp_path / "data"}
    adata = load_slice("151673", data_source="download", **options)
    facts = adata.uns["genot"]
    assert facts["data_source"] == "download"
    assert facts["dataset"] == "dlpfc"
    assert adata.shape == (24, 3)
    assert list(adata.obs["domain_truth"].cat.categories) == ["L1", "L2"]
    assert [name for name in left_in(tmp_path / "data") if not name.endswith(".sha256")] == [
        "dlpfc/151673/filtered_feature_bc_matrix.h5",
        "dlpfc/151673/spatial/scalefactors_json.json",
        "dlpfc/151673/spatial/tissue_lowres_image.png",
        "dlpfc/151673/spatial/tissue_positions_list.csv",
        "dlpfc/barcode_level_layer_map.tsv",
    ]
    n_asked = len(site.asked)
    again = load_slice("151673", data_source="download", **options)
    assert len(site.asked) == n_asked
    local = load_slice("151673", data_source="local", data_dir=tmp_path / "data")
    for other in (again, local):
        assert (other.X != adata.X).nnz == 0


def test_a_slice_half_downloaded_goes_on_with_the_missing_files(site, cortex, tmp_path):
    matrix = site.files.pop("h5/151673_filtered_feature_bc_matrix.h5")
    with pytest.raises(DownloadError, match="404"):
        fetch("dlpfc", "151673", tmp_path / "data", registry=cortex)
    site.files["h5/151673_filtered_feature_bc_matrix.h5"] = matrix
    site.asked.clear()
    folder = fetch("dlpfc", "151673", tmp_path / "data", registry=cortex)
    assert folder == tmp_path / "data" / "dlpfc" / "151673"
    assert site.asked == ["h5/151673_filtered_feature_bc_matrix.h5"]


def test_a_file_that_somebody_put_there_is_checked_and_kept(site, cortex, tmp_path):
    place = tmp_path / "data" / "dlpfc" / "151673" / "filtered_feature_bc_matrix.h5"
    place.parent.mkdir(parents=True)
    place.write_bytes(tenx_bytes(n=12)[0])
    with pytest.raises(DownloadError, match=r"12x3 .* instead of 24x3.*data_source='local'"):
        fetch("dlpfc", "151673", tmp_path / "data", registry=cortex)
    assert place.read_bytes() == tenx_bytes(n=12)[0]


def test_archives_unpack_plain_files_of_the_spatial_folder_only(site, tmp_path):
    matrix, names = tenx_bytes()
    archive = tar_bytes(["spatial/tissue_positions_list.csv"], positions_csv(names))
    evil = tar_bytes(["../evil", "/evil", "other/file", "spatial/tissue_positions_list.csv"])
    site.files |= {"m.h5": matrix, "s.tar.gz": archive, "evil.tar.gz": evil}
    rows = [
        {"dataset": "d", "file": f"{name}/{file}", "url": site.url(url)}
        for name, tar in (("good", "s.tar.gz"), ("evil", "evil.tar.gz"))
        for file, url in (("filtered_feature_bc_matrix.h5", "m.h5"), ("spatial.tar.gz", tar))
    ]
    registry = write_registry(tmp_path / "registry.tsv", rows)
    options = {"registry": registry, "data_dir": tmp_path / "data"}
    assert load_slice("good", data_source="download", **options).n_obs == 24
    fetch("d", "evil", tmp_path / "data", registry=registry)
    found = left_in(tmp_path / "data" / "d" / "evil" / "spatial")
    assert found == ["tissue_positions_list.csv"]
    assert not list(tmp_path.rglob("evil/**/file"))
    assert not (tmp_path / "data" / "d" / "evil.txt").exists()
    assert not list((tmp_path / "data").rglob(".unpacking*"))


def test_single_files_and_a_section_of_a_stack(site, tmp_path):
    site.files["e.h5ad"] = h5ad_bytes(annotation=["Heart", "Brain", "Gut"] * 10)
    site.files["m.h5ad"] = h5ad_bytes(n=60, Bregma=[-9, 11] * 30)
    rows = [
        {"dataset": "mosta", "file": "E10.5_E1S1.MOSTA.h5ad", "url": site.url("e.h5ad")},
        {"dataset": "merfish_hypothalamus", "file": "merfish.h5ad", "url": site.url("m.h5ad")},
    ]
    options = {
        "data_source": "download",
        "registry": write_registry(tmp_path / "registry.tsv", rows),
        "data_dir": tmp_path / "data",
    }
    embryo = load_slice("E10.5", **options)
    assert list(embryo.obs["domain_truth"].cat.categories) == ["Brain", "Gut", "Heart"]
    assert load_slice("merfish_9", **options).n_obs == 30
    assert load_slice("merfish_11", **options).n_obs == 30
    assert site.asked == ["e.h5ad", "m.h5ad"]


def bulb_bytes(n: int, n_genes: int, spots: str, seed: int) -> bytes:
    """Make a file as the public ones of the olfactory bulb are: counts, places, no annotation.

    Their maintainers' loader asks for counts in ``X`` and ``obsm["spatial"]``, and makes names of
    genes unique, which they are not.
    """
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.3, (n, n_genes)).astype("float32")
    counts[:, 0] = 1
    counts[0] = 0  # a spot outside the tissue
    genes = [f"Gene{k}" for k in range(n_genes - 1)] + ["Gene0"]
    names = [f"{spots}{k}" for k in range(n)]
    adata = ad.AnnData(
        sparse.csr_matrix(counts), obs=pd.DataFrame(index=names), var=pd.DataFrame(index=genes)
    )
    adata.obsm["spatial"] = rng.permutation(np.indices((40, 40)).reshape(2, -1).T)[:n]
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        ad.io.write_elem(file, "/", adata)
        file.pop("raw", None)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_the_olfactory_bulb_has_the_slots_of_its_stand_in(site, tmp_path):
    public = read_registry()
    public = public[public["dataset"] == "olfactory_bulb"].drop(columns="place")
    assert set(public["file"]) == {"slideseqv2_mob.h5ad", "stereoseq_mob.h5ad"}
    rows = []
    for number, row in enumerate(public.to_dict("records")):
        path = row["url"].split("/resolve/main/")[1]
        site.files[path] = bulb_bytes(300 + 100 * number, 50, "AC", seed=number)
        rows.append(row | {"url": site.url(path)})
    registry = write_registry(tmp_path / "registry.tsv", rows)
    for name in ("slideseqv2_mob", "stereoseq_mob"):
        options = {"registry": registry, "data_dir": tmp_path / "data"}
        real, demo = load_slice(name, data_source="download", **options), load_slice(name)
        assert "domain_truth" not in real.obs
        assert real.var_names.is_unique
        assert real.n_obs in (299, 399)
        for one in (real, demo):  # what a notebook may rely on, whatever the source
            assert sparse.isspmatrix_csr(one.X)
            assert one.X.dtype == np.float32
            assert np.array_equal(one.X.data, np.rint(one.X.data))
            assert one.obsm["spatial"].dtype == np.float64
            assert one.obsm["spatial"].shape == (one.n_obs, 2)
            assert one.uns["genot"]["dataset"] == "olfactory_bulb"
            assert one.uns["genot"]["name"] == name
        assert demo.uns["genot"]["simulated"]
        assert not real.uns["genot"]["simulated"]
        assert "micrometres_per_unit" not in real.uns["genot"]  # the files do not tell
        assert "Stickels" in real.uns["genot"]["source"]
    assert sorted(name for name in left_in(tmp_path / "data") if name.endswith(".h5ad")) == [
        "olfactory_bulb/slideseqv2_mob.h5ad",
        "olfactory_bulb/stereoseq_mob.h5ad",
    ]


def test_cells_of_an_embryo_as_squidpy_publishes_them(site, tmp_path):
    """Dense float32 values, cell types with their colours, areas, a UMAP; no unit is known."""
    types = pd.Categorical(["Cardiomyocytes", "Gut tube", "Low quality"] * 10)
    rng = np.random.default_rng(0)
    stored = ad.AnnData(
        rng.poisson(2.0, (30, 4)).astype(np.float32) + np.eye(30, 4, dtype=np.float32),
        obs=pd.DataFrame(
            {"Area": rng.uniform(50, 200, 30), "celltype_mapped_refined": types},
            index=[f"embryo1_Pos0_cell{k}_z2" for k in range(30)],
        ),
        var=pd.DataFrame(index=["Abcc4", "Acp5", "Acvr1", "Acvr2a"]),
        obsm={"spatial": rng.uniform(-3, 3, (30, 2)), "X_umap": rng.normal(size=(30, 2))},
        uns={"celltype_mapped_refined_colors": ["#111111", "#222222", "#333333"]},
    )
    stored.write_h5ad(tmp_path / "s.h5ad")
    site.files["s.h5ad"] = (tmp_path / "s.h5ad").read_bytes()
    site.files["e.h5ad"] = h5ad_bytes(annotation=["Heart", "Brain", "Gut"] * 10)
    rows = [
        {"dataset": "seqfish_embryo", "file": "seqfish.h5ad", "url": site.url("s.h5ad")},
        {"dataset": "mosta", "file": "E9.5_E1S1.MOSTA.h5ad", "url": site.url("e.h5ad")},
    ]
    options = {
        "data_source": "download",
        "registry": write_registry(tmp_path / "registry.tsv", rows),
        "data_dir": tmp_path / "data",
    }
    cells, bins = load_slice("seqfish", **options), load_slice("E9.5", **options)
    assert cells.shape == (30, 4)
    assert cells.uns["genot"]["label_key"] == "celltype_mapped_refined"
    assert list(cells.obs["domain_truth"].cat.categories) == sorted(set(types))
    np.testing.assert_allclose(cells.obsm["spatial"], stored.obsm["spatial"])
    assert "Lohoff" in cells.uns["genot"]["source"]
    assert not {"micrometres_per_unit", "y_axis"} & set(cells.uns["genot"])
    assert list(bins.obs["domain_truth"].cat.categories) == ["Brain", "Gut", "Heart"]
    local = load_slice("seqfish", data_source="local", data_dir=tmp_path / "data")
    assert (local.X != cells.X).nnz == 0


# --- the registry ---------------------------------------------------------------------------------


def test_the_registry_of_the_project_is_whole():
    table = read_registry()
    assert list(table.columns) == [*COLUMNS, "place"]
    assert table["url"].str.startswith("https://").all()
    assert table["url"].is_unique
    assert table["place"].is_unique
    assert table["sha256"].str.fullmatch(r"[0-9a-f]{64}|").all()
    assert table["shape"].str.fullmatch(r"\d+x\d+|").all()
    assert table["bytes"].str.fullmatch(r"\d*").all()
    pairs = public_slices(table)
    assert len({name for _, name in pairs}) == len(pairs)
    for dataset, name in pairs:
        places = slice_files(table, dataset, name)["place"]
        assert places.str.endswith((".h5", ".h5ad")).sum() == 1
    for name in ("151507", "151676"):
        places = set(slice_files(table, "dlpfc", name)["place"])
        assert f"dlpfc/{name}/spatial/tissue_positions_list.csv" in places
        assert f"dlpfc/{name}/filtered_feature_bc_matrix.h5" in places
        assert "dlpfc/barcode_level_layer_map.tsv" in places
    with pytest.raises(ValueError, match="lists no files"):
        slice_files(table, "dlpfc", "1516")


def test_squidpys_sets_have_squidpys_address_and_hash():
    registry = pytest.importorskip("squidpy.datasets._registry").get_registry()
    table = read_registry()
    ours = table[table["url"].str.startswith(registry.s3_base_url)]
    theirs = {
        file.s3_key: file.sha256
        for name in registry.all_names
        for file in registry[name].files
        if file.s3_key
    }
    assert len(ours) >= 8
    for row in ours.itertuples():
        assert theirs[row.url.removeprefix(registry.s3_base_url)] == row.sha256


def test_the_registry_is_found_above_the_working_directory(tmp_path, monkeypatch):
    """For a package that is installed elsewhere and used inside a checkout."""
    monkeypatch.setattr(
        "genot_helpers.datasets.downloads.__file__", str(tmp_path / "site" / "g" / "d" / "r.py")
    )
    (tmp_path / "checkout" / "notebooks").mkdir(parents=True)
    (tmp_path / "checkout" / "data").mkdir()
    monkeypatch.chdir(tmp_path / "checkout" / "notebooks")
    with pytest.raises(FileNotFoundError, match="comes with the checkout"):
        read_registry()
    path = write_registry(
        tmp_path / "checkout" / "data" / "registry.tsv", [dict.fromkeys(COLUMNS, "x")]
    )
    assert len(read_registry()) == 1
    monkeypatch.delenv("GENOT_DATA_DIR", raising=False)
    assert download_dir(registry=read_registry()) == path.parent


def test_where_downloads_go(tmp_path, monkeypatch):
    table = read_registry()
    monkeypatch.setenv("GENOT_DATA_DIR", str(tmp_path))
    assert download_dir(registry=table) == tmp_path
    assert download_dir(tmp_path / "a", registry=table) == tmp_path / "a"
    monkeypatch.setattr("os.access", lambda *_: False)  # a shared folder that is read-only
    assert download_dir(registry=table).name == "data"


DATA = os.environ.get("GENOT_DATA_DIR", "")


@pytest.mark.real_data
@pytest.mark.skipif(not DATA, reason="GENOT_DATA_DIR (folder of measured slices) is not set")
@pytest.mark.parametrize("name", ["151673", "151674", "151675"])
def test_the_hashes_of_the_registry_are_those_of_the_measured_files(name):
    rows = slice_files(read_registry(), "dlpfc", name)
    rows = rows[(rows["sha256"] != "") & rows["file"].str.contains("/")]
    assert len(rows) == 3
    for row in rows.itertuples():
        path = Path(DATA) / row.place
        assert pooch.file_hash(str(path)) == row.sha256
        assert path.stat().st_size == int(row.bytes)
