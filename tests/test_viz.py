"""Pictures of masks: what is painted where, in which colour, and what the widget and the figures hold."""

from __future__ import annotations

import base64
import io
import json
import re
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco
from support.looking import LABEL_NAMES, labels_for, row_of

from sa1b_hf import viz
from sa1b_hf._id_map import encode_id_map, encode_picture
from sa1b_hf._overlay import find_edges
from sa1b_hf.errors import AnnotationError, ConfigError, ImageError, MissingExtraError, RLEError
from sa1b_hf.features import sa1b_features
from sa1b_hf.filters import AnnotationFilter
from sa1b_hf.reader import iter_batches


def rectangle(top: int, left: int, bottom: int, right: int, shape=(60, 80)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def row():
    """A small mask on a large one, given first, and one far from both."""
    return row_of([rectangle(12, 12, 20, 30), rectangle(5, 5, 40, 50), rectangle(45, 60, 58, 78)])


def expected_picture(row, opacity: float) -> np.ndarray:
    """The same picture mask by mask in floating point, masks by pycocotools."""
    picture = np.asarray(row["image"]).astype(np.float64)
    result = picture.copy()
    order = sorted(range(len(row["annotations"])), key=lambda i: -row["annotations"][i]["area"])
    for i in order:
        mask = coco.decode(row["annotations"][i]["segmentation"]).astype(bool)
        result[mask] = picture[mask] * (1 - opacity) + viz.palette()[i % viz.NUM_COLOURS] * opacity
    return result


@pytest.mark.parametrize("opacity", [0.0, 0.35, 1.0])
def test_each_pixel_has_the_colour_of_its_smallest_mask(row, opacity):
    """The picture equals painting mask by mask, the largest first, to within rounding."""
    found = np.asarray(viz.draw(row, opacity=opacity, outline=False))
    assert np.abs(found - expected_picture(row, opacity)).max() <= 2


def test_more_masks_than_colours():
    """Over 255 masks the colours repeat, and each pixel still has the right one."""
    masks = []
    for number in range(300):
        top, left = divmod(number, 20)
        masks.append(rectangle(4 * top, 4 * left, 4 * top + 3, 4 * left + 3))
    row = row_of(masks)
    found = np.asarray(viz.draw(row, opacity=0.5, outline=False))
    assert np.abs(found - expected_picture(row, 0.5)).max() <= 2


def test_outlines_are_in_full_colour_and_inside(row):
    """A border pixel of a mask has its pure colour, its middle is blended, and nothing outside changes."""
    picture = np.asarray(viz.draw(row))
    assert picture[45, 65].tolist() == viz.palette()[2].tolist()
    assert picture[52, 70].tolist() != viz.palette()[2].tolist()
    outside = ~np.logical_or.reduce([coco.decode(one["segmentation"]).astype(bool) for one in row["annotations"]])
    assert (picture[outside] == np.asarray(row["image"])[outside]).all()


def test_edges_of_a_step():
    """Both sides of a border are edges, and a wider line grows evenly."""
    ids = np.zeros((5, 9), np.uint8)
    ids[:, 5:] = 1
    assert find_edges(ids).any(axis=0).nonzero()[0].tolist() == [4, 5]
    assert find_edges(ids, 2).any(axis=0).nonzero()[0].tolist() == [3, 4, 5, 6]
    assert not find_edges(np.ones((3, 3), np.uint8)).any()


def test_every_form_of_a_row_gives_the_same_picture(shards):
    """A row as Python values, as an Arrow table, and as a row with a decoded image."""
    batch = next(iter_batches(shards[0].path, "sa_000000"))
    table = pa.Table.from_batches([batch]).slice(0, 1)
    row = table.to_pylist()[0]
    pictures = [
        viz.draw(table),
        viz.draw(row),
        viz.draw({**row, "image": Image.open(io.BytesIO(row["image"]["bytes"]))}),
    ]
    assert len({picture.tobytes() for picture in pictures}) == 1


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (AnnotationFilter(min_predicted_iou=0.9015), [2]),
        (AnnotationFilter(min_area=200), [1, 2]),
        (AnnotationFilter(max_masks=1, select="area"), [1]),
        (AnnotationFilter(max_area=0.06), [0, 2]),
        ([2, 0, 0], [0, 2]),
        (np.array([True, False, True]), [0, 2]),
        ([], []),
    ],
)
def test_chosen_masks_keep_their_colours(row, keep, kept):
    """Only the masks that a filter, positions or truth values name are drawn, in the colours they have among all."""
    picture = np.asarray(viz.draw(row, keep=keep, opacity=1.0, outline=False))
    palette = viz.palette()
    found = [number for number in range(3) if (picture == palette[number]).all(axis=2).any()]
    assert found == kept


def test_labels_choose_and_colour(row):
    """Masks are chosen by their best label, coloured by it, and those without one are apart."""
    row["labels"] = labels_for(row["annotations"])
    row["labels"][2] = {"annotation_id": 1002, "label_ids": [-1], "scores": [0.0], "margin": 0.0, "entropy": 0.0}
    only = np.asarray(viz.draw(row, labels=[1], opacity=1.0, outline=False))
    assert (only[52, 70] == np.asarray(row["image"])[52, 70]).all()
    assert only[30, 20].tolist() == viz.palette()[1].tolist()
    coloured = np.asarray(viz.draw(row, colour_by="label", opacity=1.0, outline=False))
    assert coloured[15, 20].tolist() == viz.palette()[0].tolist()
    assert coloured[52, 70].tolist() == viz.palette()[viz.NUM_COLOURS - 1].tolist()


def test_boxes_and_points_scale(row):
    """At half the size boxes and points are where the smaller masks are."""
    plain = np.asarray(viz.draw(row, size=40, masks=False)).astype(int)
    assert plain.shape == (30, 40, 3)
    boxes = np.asarray(viz.draw(row, size=40, masks=False, boxes=True, keep=[1])).astype(int)
    changed = np.argwhere(np.abs(boxes - plain).sum(axis=2) > 0)
    assert changed.min(axis=0).tolist() == [2, 2]
    assert changed.max(axis=0).tolist() == [19, 24]
    points = np.asarray(viz.draw(row, size=40, masks=False, points=True, keep=[2]))
    middle = np.argwhere(np.abs(points - plain).sum(axis=2) > 0).mean(axis=0)
    assert np.abs(middle - [22.75, 30.25]).max() < 1.5


def test_captions_are_written(row):
    """Captions name labels, or scores where there are none."""
    plain, scores = viz.draw(row), viz.draw(row, captions=True)
    row["labels"] = labels_for(row["annotations"])
    names = viz.draw(row, captions=True, label_names=LABEL_NAMES)
    assert len({picture.tobytes() for picture in (plain, scores, names)}) == 3


def test_palette():
    """255 colours, all different and none near black or white; neighbours in the list are far apart."""
    palette = viz.palette().astype(int)
    assert palette.shape == (viz.NUM_COLOURS, 3)
    assert len({tuple(colour) for colour in palette.tolist()}) == viz.NUM_COLOURS
    assert np.abs(np.diff(palette, axis=0)).sum(axis=1).min() > 100
    assert palette.max(axis=1).min() > 90
    assert palette.min(axis=1).max() < 225
    assert viz.colours_of([3, 258]).tolist() == [palette[3].tolist()] * 2


def test_sheets(row):
    """Sheets are as large as their tiles need, and hold what they are given."""
    sheet = viz.contact_sheet([row] * 5, columns=3, tile=40)
    assert sheet.size == (3 * 48 + 8, 2 * (48 + 22) + 8)
    pair = viz.plot_masks(row)
    assert pair.size == (168, 60)
    assert pair.crop((0, 0, 80, 60)).tobytes() == row["image"].tobytes()
    row["labels"] = labels_for(row["annotations"])
    classes = viz.class_sheet([row], label_names=LABEL_NAMES, per_class=2, tile=32)
    assert classes.size == (120 + 2 * 40 + 16, 3 * 40 + 8)
    table = pa.table({**{name: [row[name]] for name in ("image_id", "width", "height", "annotations", "labels")}})
    image = {"bytes": encode_picture(row["image"], "PNG"), "path": None}
    table = table.append_column("image", pa.array([image]))
    assert viz.class_sheet([table], label_names=LABEL_NAMES, per_class=2, tile=32).tobytes() == classes.tobytes()
    only = viz.class_sheet([row], labels=[2], per_class=2, tile=32)
    assert only.height == 48
    assert viz.contact_sheet([], tile=40).size == (56, 56)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opacity": 1.5}, "opacity: expected 0 to 1"),
        ({"colour_by": "size"}, "colour_by: expected 'mask' or 'label'"),
        ({"size": 0}, "size: expected pixels of the longer side"),
        ({"keep": [3]}, "keep: expected positions of 0 to 2"),
        ({"keep": [0.5]}, "keep: expected positions"),
    ],
)
def test_options_that_make_no_sense(row, options, message):
    """An option out of range is named, with what was expected."""
    with pytest.raises(ConfigError, match=message):
        viz.draw(row, **options)


def test_rows_that_cannot_be_drawn(row):
    """A broken mask, labels of another length, a torn image and a batch are typed errors."""
    with pytest.raises(AnnotationError, match="expected one for each of 3 annotations, found 1"):
        viz.draw({**row, "labels": labels_for(row["annotations"][:1])})
    with pytest.raises(ImageError):
        viz.draw({**row, "image": {"bytes": b"\xff\xd8 torn", "path": None}})
    bad = {**row["annotations"][0], "segmentation": {"size": [60, 80], "counts": "@"}}
    with pytest.raises(RLEError):
        viz.draw({**row, "annotations": [bad]})
    with pytest.raises(ConfigError, match="expected one row, found a batch of 2"):
        viz.draw(pa.Table.from_pydict({"image_id": [1, 2]}))


def test_a_row_without_masks(row):
    """An image without masks is the image."""
    picture = viz.draw({**row, "annotations": []}, boxes=True, points=True, captions=True)
    assert picture.tobytes() == row["image"].tobytes()
    assert "0 masks" in viz.show({**row, "annotations": []})._repr_html_()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.data())
def test_id_maps_survive_the_browser(height, width, data):
    """Whatever the ids, what a browser reads back from red and green is what was written."""
    ids = np.array(data.draw(st.lists(st.integers(0, 65535), min_size=height * width, max_size=height * width)))
    ids = ids.reshape(height, width).astype(np.uint16)
    pixels = np.asarray(Image.open(io.BytesIO(encode_id_map(ids)))).astype(np.uint16)
    assert ((pixels[..., 0] | pixels[..., 1] << 8) == ids).all()
    assert not pixels[..., 2].any()


def test_the_widget_needs_nothing_from_anywhere(row):
    """The HTML holds both pictures and the texts, and no address but data."""
    row["labels"] = labels_for(row["annotations"])
    widget = viz.show(row, size=80, label_names=["</script><script>alert(1)", "b", "c"])
    html = widget._repr_html_()
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:)", html)
    assert "http" not in html
    assert html.count("</script>") == 1
    facts = json.loads(re.search(r"facts = (\[.*?\]), canvas", html)[1])
    assert facts[1] == "mask 1001 · b 0.75 · 1,575 px · iou 0.901 · stability 0.989"
    assert facts[0].startswith("mask 1000 · </script>")
    data = re.search(r'map.src = "data:image/png;base64,([^"]+)"', html)[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert pixels[15, 20, 0] == 1
    assert pixels[30, 20, 0] == 2
    assert repr(widget) == "MaskWidget(sa_7.jpg, 3 masks)"
    assert widget._repr_html_() != html  # two outputs on a page need different ids


def test_statistics_are_those_of_numpy(shards):
    """Counts, ranges and means are exact, percentiles within a bin, however the rows are cut into tables."""
    columns = ("image_id", "width", "height", "annotations")
    schema = sa1b_features(columns).arrow_schema
    table = pa.Table.from_batches(list(iter_batches(shards[0].path, "x"))).select(columns).cast(schema)
    rows = table.to_pylist()
    whole = viz.collect_statistics([table])
    parts = viz.collect_statistics(table.slice(start, 3) for start in range(0, table.num_rows, 3))
    assert parts.to_dict().keys() == whole.to_dict().keys()
    areas = np.array([one["area"] for row in rows for one in row["annotations"]], float)
    shares = np.concatenate(
        [[one["area"] / row["width"] / row["height"] for one in row["annotations"]] for row in rows]
    )
    for statistics in (whole, parts):
        assert (statistics.num_images, statistics.num_masks) == (len(rows), len(areas))
        assert statistics.area.total == areas.sum()
        assert (statistics.area.minimum, statistics.area.maximum) == (areas.min(), areas.max())
        assert statistics.area_share.maximum == shares.max()
        assert (
            statistics.masks_per_image.counts[:20].tolist()
            == np.bincount([len(row["annotations"]) for row in rows], minlength=20)[:20].tolist()
        )
        for percent in (25, 50, 75):
            middle = np.percentile(areas, percent)
            assert statistics.area.percentile(percent) == pytest.approx(middle, rel=0.25)
    assert json.loads(json.dumps(whole.to_dict()))["num_masks"] == len(areas)


def test_values_outside_the_bins_are_counted():
    """Values beyond the edges fall into the outer bins, NaN into none."""
    histogram = viz.Histogram(np.array([0.0, 1.0, 2.0]))
    histogram.add(np.array([-5.0, 0.5, 9.0, np.nan]))
    assert histogram.counts.tolist() == [2, 1]
    assert (histogram.num, histogram.minimum, histogram.maximum) == (3, -5.0, 9.0)
    assert viz.Histogram(np.array([0.0, 1.0])).to_dict() == {"num": 0}


def test_figures(shards):
    """Each panel is drawn, without pyplot and its global state."""
    pytest.importorskip("matplotlib")
    statistics = viz.collect_statistics(iter_batches(shards[0].path, "x"))
    figure = viz.plot_distributions(statistics)
    assert len(figure.axes) == 6
    figure.savefig(io.BytesIO(), format="png")
    assert len(viz.plot_distributions(statistics, ("area",)).axes) == 1
    assert len(viz.plot_distributions(viz.collect_statistics([])).axes) == 6
    assert "matplotlib.pyplot" not in sys.modules


def test_figures_without_matplotlib(monkeypatch):
    """Without the extra the error has the line to type."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sa1b_hf\[plot\]'"):
        viz.plot_distributions(viz.collect_statistics([]))
