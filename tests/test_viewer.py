"""The viewer without a browser: who is let in, what is answered, how much is kept, and that the code it shows is true."""

from __future__ import annotations

import http.client
import io
import json
import re
import threading
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pycocotools import mask as coco
from support.looking import LABEL_NAMES, make_converted

from sa1b_hf import places
from sa1b_hf.errors import ConfigError, MissingShardsError, SourceError
from sa1b_hf.places import Place, find_place, iter_tables, read_label_names
from sa1b_hf.reports import PassReport
from sa1b_hf.testing import make_shard
from sa1b_hf.viewer import MaskSelection, RowStore, Viewer, ViewerServer, code_lines
from sa1b_hf.viewer._cache import ByteCache


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("looking")


@pytest.fixture(scope="module")
def shard(folder):
    return make_shard(folder / "shards" / "sa_000003.tar", first_id=10, num_images=9, order="sorted")


@pytest.fixture(scope="module")
def converted(folder):
    return make_converted(folder)


@pytest.fixture
def viewer(shard):
    made = Viewer(find_place(str(shard.path)))
    yield made
    made.close()


@pytest.fixture
def labelled(converted):
    made = Viewer(find_place(str(converted)))
    yield made
    made.close()


def ask(viewer: Viewer, target: str) -> dict:
    answer = viewer.answer(target)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


class Visitor:
    """Somebody who talks to a server, with the headers they choose."""

    def __init__(self, server: ViewerServer) -> None:
        self.server = server
        self.token = urlsplit(server.url).query.removeprefix("token=")
        self.cookie = f"sa1b_{server.port}={self.token}"

    def get(self, target: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        response.content = response.read()
        connection.close()
        return response


@pytest.fixture(scope="module")
def visitor(shard):
    with ViewerServer(Viewer(find_place(str(shard.path)))) as server:
        yield Visitor(server)


# --- who is let in


def test_the_address_leads_in_and_the_token_out_of_sight(visitor):
    """The printed address sets a cookie that other sites cannot send, and leads to an address without the token."""
    response = visitor.get(visitor.server.url.partition(str(visitor.server.port))[2])
    assert response.status == 303
    assert response.headers["Location"] == "/"
    assert response.headers["Set-Cookie"] == f"{visitor.cookie}; Path=/; HttpOnly; SameSite=Strict"
    page = visitor.get("/", Cookie=visitor.cookie)
    assert page.status == 200
    assert b"<title>sa1b view</title>" in page.content
    assert visitor.token.encode() not in page.content


@pytest.mark.parametrize(
    "target",
    ["/", "/app.js", "/api/rows", "/image/0.jpg", "/ids/0.png", "/nothing", "/?token=", "/?token=guess", "/?token=%ff"],
)
@pytest.mark.parametrize(
    "cookie", ["", "{name}=", "{name}=guess", "{name}=é", "other={token}", "{name}={token}x", '"; =']
)
def test_nobody_else_is_let_in(visitor, target, cookie):
    """Without the token, or with a wrong one, every address gives the same refusal."""
    name = f"sa1b_{visitor.server.port}"
    given = cookie.format(name=name, token=visitor.token).encode("utf-8").decode("latin-1")
    response = visitor.get(target, Cookie=given)
    assert response.status == 403
    assert b"belongs to somebody else" in response.content


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "127.0.0.1.nip.io:{port}"]
)
def test_other_names_of_this_machine_are_refused(visitor, host):
    """A name that somebody pointed here (DNS rebinding) gets nothing, even with the cookie."""
    response = visitor.get("/api/rows", Host=host.format(port=visitor.server.port), Cookie=visitor.cookie)
    assert response.status == 421
    assert response.content == b"Unknown host.\n"


def test_localhost_is_this_machine(visitor):
    """The other usual name of the loopback works."""
    assert visitor.get("/api/place", Host=f"localhost:{visitor.server.port}", Cookie=visitor.cookie).status == 200


@pytest.mark.parametrize("target", ["/", "/api/rows", "/image/0.jpg", "/nothing"])
def test_headers_keep_the_page_to_itself(visitor, target):
    """Every answer forbids to load from, to send to, and to be framed by anything else."""
    headers = visitor.get(target, Cookie=visitor.cookie).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "sa1b/" not in headers["Server"]
    assert "Python" not in headers["Server"]


def test_the_server_listens_on_the_loopback_alone(visitor):
    """No other machine can reach the server, and tokens are long and never the same."""
    assert visitor.server._server.server_address[0] == "127.0.0.1"
    with ViewerServer(Viewer(find_place(None))) as other:
        assert urlsplit(other.url).query != f"token={visitor.token}"
    assert len(visitor.token) >= 43


@pytest.mark.parametrize(
    "target", ["/../../etc/passwd", "/page/../app.js", "/%2e%2e/setup.cfg", "//evil.example/", "/app.js/"]
)
def test_there_are_no_other_files(visitor, target):
    """Only the files of the page are served, by their exact names."""
    assert visitor.get(target, Cookie=visitor.cookie).status == 404


def test_a_port_that_is_taken(visitor, shard):
    """The port of another server is an error that says what to do."""
    with pytest.raises(ConfigError, match=f"port {visitor.server.port} cannot be had"):
        ViewerServer(Viewer(find_place(str(shard.path))), visitor.server.port)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_nothing_can_be_changed(visitor, method):
    """Only GET is understood."""
    connection = http.client.HTTPConnection("127.0.0.1", visitor.server.port, timeout=10)
    connection.request(method, "/", headers={"Cookie": visitor.cookie})
    assert connection.getresponse().status == 501
    connection.close()


def test_page_files_name_nothing_elsewhere():
    """The page's own files load nothing from another place, and are declared as data of the package."""
    folder = places.Path(places.__file__).parent / "viewer" / "page"
    for path in folder.iterdir():
        assert not re.findall(r"https?://|//[a-z]+\.|@import|eval\(|innerHTML|style=\"", path.read_text()), path.name
    setup = (places.Path(places.__file__).parent.parent / "setup.cfg").read_text()
    assert "sa1b_hf.viewer = page/*" in setup
    served = re.findall(r'(?:src|href|from) ?=? ?"(/[a-z.]+)"', "".join(path.read_text() for path in folder.iterdir()))
    assert {name.strip("/") for name in served} == {path.name for path in folder.iterdir()} - {"index.html"}


# --- what is answered


def test_rows(viewer, shard):
    """Summaries hold the numbers of all masks, as the shard has them."""
    found = ask(viewer, "/api/rows?start=2&count=3")
    assert [row["index"] for row in found["rows"]] == [2, 3, 4]
    everything = ask(viewer, "/api/rows?count=200")
    assert everything["complete"]
    assert {row["image_id"] for row in everything["rows"]} == shard.good_ids
    expected = {row["image_id"][0].as_py(): row for table in iter_tables(viewer.place) for row in cut(table)}
    for row in everything["rows"]:
        annotations = expected[row["image_id"]]["annotations"][0].as_py()
        for name in ("area", "predicted_iou", "stability_score"):
            assert row["masks"][name] == [one[name] for one in annotations]
        assert row["masks"]["ids"] == [one["id"] for one in annotations]
        details = ask(viewer, f"/api/row/{row['index']}")
        assert details["boxes_xywh"] == [one["bbox"] for one in annotations]
        assert details["points_xy"] == [one["point_coords"] for one in annotations]


def cut(table: pa.Table) -> list[pa.Table]:
    return [table.slice(row, 1) for row in range(table.num_rows)]


def test_pictures(viewer):
    """The image is the file itself; the map has each mask where pycocotools has it; thumbnails show masks or not."""
    (row,) = (row for row in cut(next(iter_tables(viewer.place)))[:1])
    assert viewer.answer("/image/0.jpg?v=1").body == row["image"][0].as_py()["bytes"]
    pixels = np.asarray(Image.open(io.BytesIO(viewer.answer("/ids/0.png").body))).astype(int)
    ids = pixels[..., 0] + 256 * pixels[..., 1]
    annotations = row["annotations"][0].as_py()
    for position in sorted(range(len(annotations)), key=lambda i: annotations[i]["area"])[:1]:
        mask = coco.decode(annotations[position]["segmentation"]).astype(bool)
        assert ((ids == position + 1) == mask).all()
    painted = np.logical_or.reduce([coco.decode(one["segmentation"]).astype(bool) for one in annotations])
    assert ((ids > 0) == painted).all()
    with_masks, without = (viewer.answer(f"/thumbnail/0.jpg?masks={flag}") for flag in "10")
    assert with_masks.body != without.body
    assert max(Image.open(io.BytesIO(with_masks.body)).size) == 320


def test_a_filtered_map_shows_what_lay_below(labelled):
    """When a filter hides a mask, the ones it covered are seen in full, under the numbers they always have."""
    row = ask(labelled, "/api/rows?count=1")["rows"][0]
    areas = row["masks"]["area"]
    largest = max(areas)
    (table,) = cut(next(iter_tables(labelled.place)))[:1]
    position = areas.index(largest)
    mask = coco.decode(table["annotations"][0].as_py()[position]["segmentation"]).astype(bool)
    pixels = np.asarray(Image.open(io.BytesIO(labelled.answer(f"/ids/0.png?min_area={largest}").body)))
    assert ((pixels[..., 0] == position + 1) == mask).all()
    assert set(np.unique(pixels[..., 0])) == {0, position + 1}
    nothing = Image.open(io.BytesIO(labelled.answer("/ids/0.png?min_area=999999999").body))
    assert not np.asarray(nothing).any()


def test_images_are_found(viewer, shard):
    """A deep link finds its image, also one that was not read yet; one that is not there is told so."""
    last = max(shard.good_ids)
    assert len(viewer.store) == 0
    assert ask(viewer, f"/api/find/{last}") == {"index": 8}
    answer = viewer.answer("/api/find/123456789012345678")
    assert answer.status == 404
    assert b"not among the 9 images" in answer.body


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/api/rows?start=x", 400),
        ("/api/rows?start=-1", 400),
        ("/api/rows?start=99999999999999999999", 400),
        ("/ids/0.png?min_predicted_iou=high", 400),
        ("/ids/0.png?min_predicted_iou=nan", 400),
        ("/ids/0.png?labels=1,two", 400),
        ("/ids/0.png?min_area=1e400", 400),
        ("/ids/99999.png", 404),
        ("/ids/9999999999.png", 404),
        ("/thumbnail/0.png", 404),
        ("/api/row/-1", 404),
        ("/api", 404),
    ],
)
def test_questions_that_make_no_sense(viewer, target, status):
    """Each is answered with its status and a sentence, none ends the server."""
    answer = viewer.answer(target)
    assert answer.status == status
    assert json.loads(answer.body)["error"]


def test_a_row_without_an_image_is_no_crash(tmp_path):
    """Annotations alone can be listed; their picture is an error of its own."""
    shard = make_shard(tmp_path / "sa_000000.tar", num_images=2)
    table = next(iter_tables(find_place(str(shard.path)), ("image_id", "width", "height", "annotations")))
    pa.parquet.write_table(table, tmp_path / "x.parquet")
    viewer = Viewer(find_place(str(tmp_path / "x.parquet")))
    assert len(ask(viewer, "/api/rows")["rows"]) == table.num_rows
    for target in ("/image/0.jpg", "/thumbnail/0.jpg"):
        assert viewer.answer(target).status == 422
    assert viewer.answer("/ids/0.png").status == 200
    viewer.close()


# --- choosing, code and export


FILTERS = [
    "",
    "min_predicted_iou=0.95",
    "min_stability_score=0.97&min_predicted_iou=0.93",
    "min_area=100&max_area=900",
    "labels=1",
    "labels=-1,2&min_area=40",
    "min_predicted_iou=9",
]


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("kind", ["shards", "folder", "parquet", "hub"])
def test_the_code_loads_the_selection(filters, kind, shard, converted, monkeypatch, tmp_path):
    """The lines of Python, run as they are, give the images of the export with exactly its masks."""
    if "labels" in filters and kind in ("shards", "folder"):
        pytest.skip("shards have no labels")
    monkeypatch.chdir(converted.parent)
    where = {"shards": str(shard.path), "folder": "shards", "parquet": str(converted), "hub": "converted/data"}[kind]
    if kind == "hub":
        # a folder in the place of a repository: `datasets` reads both alike
        place = Place("hub", where, repository=where, arguments={"path": where, "split": "train", "streaming": True})
    else:
        place = find_place(where)
    viewer = Viewer(place)
    assert ask(viewer, "/api/rows?count=200")["problem"] is None
    exported = json.loads(viewer.answer(f"/api/export?format=json&{filters}").body)
    lines = viewer.answer(f"/api/export?{filters}").body.decode().splitlines()
    assert [int(line) for line in lines] == [image["image_id"] for image in exported]
    namespace: dict = {}
    exec(viewer.answer(f"/api/code?{filters}").body.decode(), namespace)  # what the user would paste
    loaded = [
        {"image_id": row["image_id"], "annotation_ids": [one["id"] for one in row["annotations"]]}
        for row in namespace["ds"]
    ]
    assert loaded == exported
    if not filters:
        assert len(loaded) == len(viewer.store)
    viewer.close()


def test_code_in_full(converted):
    """What the page shows, as it reads."""
    selection = MaskSelection(min_predicted_iou=0.9, min_area=100, labels=frozenset([2, 0]))
    place = Place("hub", "me/sa1b", repository="me/sa1b", arguments={"path": "me/sa1b", "split": "train"})
    assert (
        code_lines(place, selection, has_labels=True)
        == """\
from datasets import load_dataset

ds = load_dataset("me/sa1b", split="train")


def find_masks(row):
    return [
        number
        for number, mask in enumerate(row["annotations"])
        if mask["predicted_iou"] >= 0.9
        and mask["area"] >= 100
        and [*row["labels"][number]["label_ids"], -1][0] in [0, 2]
    ]


def keep_masks(row):
    return {name: [row[name][number] for number in find_masks(row)] for name in ["annotations", "labels"]}


ds = ds.filter(lambda row: len(find_masks(row)) > 0).map(keep_masks, features=ds.features)
"""
    )
    odd = Place("shards", "x", arguments={"path": "sa1b.py", "data_dir": 'it\'s "mine" \\ 😀'})
    namespace: dict = {"load_dataset": lambda *a, **k: k}
    exec(code_lines(odd, MaskSelection()).replace("from datasets import load_dataset", ""), namespace)
    assert namespace["ds"] == {"data_dir": 'it\'s "mine" \\ 😀'}


def test_labels(labelled):
    """Labels, their scores and names reach the page."""
    assert ask(labelled, "/api/place")["label_names"] == list(LABEL_NAMES)
    masks = ask(labelled, "/api/rows?count=1")["rows"][0]["masks"]
    assert masks["label"][:4] == [0, 1, 2, -1][: len(masks["label"])]
    assert masks["label_score"][0] == 0.75


# --- how much is kept


def make_tables(count: int, size: int, log: list[int] | None = None):
    for number in range(count):
        if log is not None:
            log.append(number)
        yield pa.table(
            {
                "image": pa.array([{"bytes": bytes([number % 256]) * size, "path": None}]),
                "image_id": [number],
                "width": [4],
                "height": [3],
                "annotations": pa.array(
                    [[{"id": number, "segmentation": {"size": [3, 4], "counts": "66"}, "bbox": [0.0] * 4, "area": 6}]]
                ),
            }
        )


def test_rows_are_read_only_as_far_as_they_are_asked_for():
    """A stream is read forward, lazily, once."""
    log: list[int] = []
    store = RowStore(make_tables(50, 10, log))
    assert log == []
    store.ensure(3)
    assert log == [0, 1, 2]
    store.ensure(2)
    assert store.find(6) == 6
    assert log == list(range(7))
    assert not store.is_complete
    store.close()


def test_memory_is_bounded():
    """However many rows are looked at, in whatever order, only so many bytes of them stay in memory."""
    store = RowStore(make_tables(200, 100_000), cached_bytes=1_000_000)
    store.ensure(1000)
    assert len(store) == 200
    for number in [*range(200), *range(199, 0, -7)]:
        assert bytes(store.row(number)["image"]["bytes"]) == bytes([number % 256]) * 100_000
        assert store.cached_bytes <= 1_000_000
    assert store.cached_bytes > 500_000
    store.close()


def test_the_cache_forgets_the_oldest():
    """What was used last stays."""
    cache: ByteCache[bytes] = ByteCache(30, len)
    for key in "abca":
        cache.get(key, lambda: bytes(10))
    cache.get("d", lambda: bytes(10))
    made: list[str] = []
    for key in "acdb":
        cache.get(key, lambda key=key: made.append(key) or bytes(10))
    assert made == ["b"]


def test_a_limit_is_said(shard):
    """Past the limit nothing is read, and the page says that there is more."""
    viewer = Viewer(find_place(str(shard.path)), limit=4)
    found = ask(viewer, "/api/rows")
    assert len(found["rows"]) == 4
    assert found["problem"] == "only the first 4 images are shown; see --limit"
    viewer.close()
    with pytest.raises(ConfigError, match="limit: expected at least 1"):
        RowStore([], limit=0)


def test_damage_is_said(tmp_path):
    """Everything good of a damaged shard is shown, and what is not is told."""
    make_shard(tmp_path / "sa_000000.tar", num_images=12, faults=["torn_jpg", "missing_end"])
    viewer = Viewer(find_place(str(tmp_path)))
    found = ask(viewer, "/api/rows?count=200")
    assert 0 < len(found["rows"]) < 12
    assert "sa_000000 is broken" in found["problem"]
    viewer.close()


def test_many_at_once(visitor):
    """Requests side by side get their own answers."""
    wrong: list[object] = []

    def look(number: int) -> None:
        for target in (f"/api/row/{number}", f"/ids/{number}.png", f"/thumbnail/{number}.jpg", f"/image/{number}.jpg"):
            response = visitor.get(target, Cookie=visitor.cookie)
            if response.status != 200 or not response.content:
                wrong.append((target, response.status))

    threads = [threading.Thread(target=look, args=(number % 9,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- places


def test_what_a_place_is(folder, shard, converted, monkeypatch):
    """Shards, folders, links, conversions, Parquet files and repositories are told apart."""
    assert find_place(None).kind == "sample"
    monkeypatch.setenv("SA1B_HF_SHARDS", str(shard.path.parent))
    assert find_place(None).name == "$SA1B_HF_SHARDS"
    for name in (shard.path, shard.path.parent):
        place = find_place(str(name))
        assert (place.kind, [one.name for one in place.shards]) == ("shards", ["sa_000003"])
    links = folder / "links.txt"
    links.write_text("file_name\tcdn_link\nsa_000005.tar\thttps://host.example/sa_000005.tar?oe=7fffffff&oh=canary\n")
    assert find_place(str(links)).arguments["links"] == str(links)
    assert "canary" not in repr(find_place(str(links)))
    assert find_place(str(converted)).arguments["data_files"].endswith("data/train/*.parquet")
    file = next((converted / "data" / "train").glob("*.parquet"))
    assert find_place(str(file)).files == (str(file),)
    place = find_place("somebody/sa1b-labels", split="test")
    assert (place.kind, place.repository, place.split) == ("hub", "somebody/sa1b-labels", "test")
    assert read_label_names(place) == ()


@pytest.mark.parametrize("name", ["nothing_here", "nothing.tar", "a/b/c", "nothing.parquet", "no.txt"])
def test_what_no_place_is(name):
    """Something else is an error that says what was expected."""
    with pytest.raises(ConfigError, match="expected a shard, a folder"):
        find_place(name)


def test_places_that_cannot_be_read(tmp_path):
    """An empty folder, a torn Parquet file and strange metadata are typed errors."""
    with pytest.raises(MissingShardsError):
        find_place(str(tmp_path))
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(b"PAR1 and no more")
    with pytest.raises(SourceError, match="expected a whole Parquet file"):
        next(iter_tables(find_place(str(torn))))
    odd = tmp_path / "odd.parquet"
    pa.parquet.write_table(pa.table({"a": [1]}).replace_schema_metadata({b"sa1b_hf": b"[}"}), odd)
    with pytest.raises(SourceError, match="metadata cannot be read"):
        read_label_names(find_place(str(odd)))


def test_tables_have_what_is_asked_for(shard, converted):
    """Columns are chosen before anything is read; the report of shards adds up."""
    report = PassReport()
    tables = list(iter_tables(find_place(str(shard.path)), ("image_id", "annotations", "labels"), report))
    assert {tuple(table.column_names) for table in tables} == {("image_id", "annotations")}
    assert report.delivered == 9
    names = next(iter_tables(find_place(str(converted)), ("labels", "image_id"))).column_names
    assert sorted(names) == ["image_id", "labels"]
