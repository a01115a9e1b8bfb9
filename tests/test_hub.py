"""Pushes to the Hub and back: the same rows, private and without pixels unless told otherwise."""

from __future__ import annotations

import hashlib
import itertools
import logging
import pickle
import traceback

import datasets
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value, load_dataset
from support.pushing import card_data, is_true, received_any_of
from support.stand_in_hub import Fault

import sa1b_hf
from sa1b_hf.convert import ConvertOptions, process_shard
from sa1b_hf.errors import ConfigError, ImageError, MissingShardsError, PairingError, ShardError, SourceError
from sa1b_hf.hub import push, rehydrate

REPO = "ada/subset"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the client's own HTTP client


@pytest.fixture(scope="module")
def converted(shards, tmp_path_factory):
    """Two converted shards in several parts, with their images."""
    out = tmp_path_factory.mktemp("converted")
    for shard in shards[:2]:
        process_shard(shard.path, out, ConvertOptions(part_bytes=60_000, row_group_rows=5))
    return out


@pytest.fixture
def builder(shards, tmp_path):
    """The verbatim call on the same shards."""

    def load(**options):
        files = [str(shard.path) for shard in shards[:2]]
        options = {"data_files": files, "split": "train", "cache_dir": str(tmp_path / "cache"), **options}
        return sa1b_hf.load_dataset("sa1b.py", **options)

    return load


@pytest.fixture
def load(tmp_path):
    """Load a repository as everybody does."""

    def from_hub(repo=REPO, **options):
        return load_dataset(repo, **{"split": "train", "cache_dir": str(tmp_path / "from-hub"), **options})

    return from_hub


@pytest.fixture
def jpegs(builder):
    """The bytes of all images."""
    return [row["image"]["bytes"] for row in rows_of(builder(streaming=True))]


def rows_of(dataset) -> list[dict]:
    """Rows by id, with the JPEGs as bytes."""
    if "image" in dataset.features:
        dataset = dataset.cast_column("image", Image(decode=False))
    return sorted(dataset, key=lambda row: row["image_id"])


def hashes_of(rows) -> dict[int, str]:
    return {row["image_id"]: hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in rows}


def without_images(rows) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "image"} for row in rows]


def many_masks(row) -> bool:
    return len(row["annotations"]) > 2


def filtered(builder, kind):
    """A dataset with a filter in Python, of either kind."""
    dataset = builder(streaming=kind == "stream")
    if kind == "stream":
        dataset = dataset.cast_column("image", Image(decode=False))
    return dataset.filter(many_masks)


@pytest.mark.parametrize("kind", ["map-style", "stream"])
def test_there_and_back_with_images(kind, hub, builder, load):
    """Loaded, filtered, pushed and streamed from the Hub: the same rows, and not a byte of a JPEG is different."""
    expected = [row for row in rows_of(builder(streaming=True)) if many_masks(row)]
    result = push(filtered(builder, kind), REPO, include_images=True)
    streamed, prepared = load(streaming=True), load()
    assert hashes_of(rows_of(streamed)) == hashes_of(expected)
    assert rows_of(prepared) == rows_of(streamed) == expected
    assert streamed.features == prepared.features == sa1b_hf.sa1b_features()
    assert (result.rows, result.is_private, result.has_images) == ({"train": len(expected)}, True, True)
    assert next(iter(streamed))["image"].format == "JPEG"


@pytest.mark.parametrize("kind", ["map-style", "stream"])
def test_there_and_back_without_images(kind, hub, builder, load, shards, tmp_path):
    """Annotations alone go out; with the shards at hand the rows are complete again, in their order."""
    expected = [row for row in rows_of(builder(streaming=True)) if many_masks(row)]
    push(filtered(builder, kind), REPO)
    loaded = load(streaming=kind == "stream")
    assert rows_of(loaded) == without_images(expected)
    whole = rehydrate(loaded, shards[0].path.parent, index_dir=tmp_path / "indexes")
    assert whole.features == sa1b_hf.sa1b_features()
    assert [row["image_id"] for row in whole] == [row["image_id"] for row in loaded]
    assert rows_of(whole) == expected
    assert len(list((tmp_path / "indexes").iterdir())) == 2


@pytest.mark.parametrize("include_images", [False, True])
def test_a_converted_folder(include_images, hub, converted, builder, load):
    """What `sa1b convert` wrote: with images the very files, else the same rows without them."""
    expected = rows_of(builder(streaming=True))
    result = push(converted, REPO, include_images=include_images)
    assert rows_of(load(streaming=True)) == (expected if include_images else without_images(expected))
    parts = {path.name: path.read_bytes() for path in converted.glob("data/train/*.parquet")}
    found = {path.rpartition("/")[2]: data for path, data in hub.files(REPO).items() if path.endswith(".parquet")}
    assert (found == parts) is include_images
    assert found.keys() == parts.keys()
    assert result.num_files == len(parts) > 3
    assert result.dropped_columns == (() if include_images else ("image",))


def test_splits(hub, builder, load, shards):
    """A dictionary of datasets becomes splits, and comes back whole."""
    dataset = builder()
    parts = DatasetDict({"train": dataset.select(range(10)), "validation": dataset.select(range(10, 20))})
    result = push(parts, REPO)
    loaded = load(split=None)
    assert {split: len(rows) for split, rows in loaded.items()} == result.rows == {"train": 10, "validation": 10}
    whole = rehydrate(loaded, [shard.path for shard in shards])
    assert rows_of(whole["validation"]) == rows_of(parts["validation"])


def test_files_depend_on_rows_alone(hub, builder, monkeypatch):
    """A prepared dataset, the same rows in other chunks, and a stream give the same files."""
    monkeypatch.setattr("sa1b_hf._hub_parts._GROUP_ROWS", 8)
    dataset = builder()
    pieces = datasets.concatenate_datasets([dataset.select(range(at, at + 1)) for at in range(len(dataset))])
    names = []
    for source in (dataset, pieces, builder(streaming=True)):
        push(source, REPO, include_images=True, part_bytes=50_000)
        names.append(sorted(path for path in hub.files(REPO) if path.startswith("data/")))
    assert names[0] == names[1] == names[2]
    assert len(names[0]) > 2


def test_again_sends_nothing(hub, converted):
    """A second push of the same finds everything there and makes no commit."""
    push(converted, REPO)
    before, uploads = hub.files(REPO), list(hub.store.uploads)
    mark = len(hub.requests)
    result = push(converted, REPO)
    assert (result.uploaded, result.uploaded_bytes, result.removed) == (0, 0, 0)
    assert set(hub.kinds(since=mark)) <= {"info", "tree", "resolve"}
    assert (hub.files(REPO), hub.store.uploads) == (before, uploads)


def test_another_selection_replaces_the_first(hub, converted, builder):
    """At every moment the card is true; in the end files of the first push are gone, and those of others are not."""
    push(converted, REPO)
    first = hub.files(REPO)
    api = _api(hub)
    for path in ("data/notes.txt", "figures/mine.png"):
        api.upload_file(path_or_fileobj=b"mine", path_in_repo=path, repo_id=REPO, repo_type="dataset")
    states = []
    hub.watch = lambda request, moment: states.append(hub.files(REPO)) and None
    result = push(builder().filter(many_masks), REPO, part_bytes=2_000)
    last = hub.files(REPO)
    assert all(is_true(state) for state in states)
    assert any(state["README.md"] == first["README.md"] and len(state) > len(first) + 2 for state in states)
    assert last["README.md"] != first["README.md"]
    assert last["data/notes.txt"] == last["figures/mine.png"] == b"mine"
    assert not [path for path in last if path.startswith("data/") and path in first]
    assert result.removed == len([path for path in first if path.startswith("data/")])


def _api(hub, token=None):
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.url, token=token or hub.token)


def test_commits_are_small_and_the_card_comes_last(hub, converted, monkeypatch):
    """Files go in batches; each commit before the last one has data alone."""
    monkeypatch.setattr("sa1b_hf.hub._COMMIT_FILES", 2)
    push(converted, REPO, include_images=True)
    history = [set(commit.files) for commit in reversed(hub.repository(REPO).history("main"))]
    steps = [after - before for before, after in itertools.pairwise(history)]
    assert all(len(step) <= 2 for step in steps[:-1])
    assert not any("README.md" in step for step in steps[:-1])
    assert "README.md" in steps[-1]
    assert len(steps) == 3


def test_large_files_in_pieces_and_long_listings(hub, converted, load):
    """Uploads in several pieces, and listings in several pages, are no different."""
    hub.piece_bytes, hub.page_rows = 10_000, 3
    push(converted, REPO, include_images=True)
    assert "lfs-join" in hub.kinds()
    assert is_true(hub.files(REPO))
    mark = len(hub.requests)
    assert push(converted, REPO, include_images=True).uploaded == 0
    assert hub.kinds(since=mark).count("tree") > 2


def test_parquet_is_large_to_git(hub, converted):
    """In a repository whose attributes do not say so, the push adds the line and keeps the others."""
    api = _api(hub)
    api.create_repo(REPO, repo_type="dataset", private=True)
    api.upload_file(path_or_fileobj=b"*.txt text", path_in_repo=".gitattributes", repo_id=REPO, repo_type="dataset")
    push(converted, REPO)
    entries = hub.repository(REPO).branches["main"].files
    assert all(entry.is_lfs for path, entry in entries.items() if path.endswith(".parquet"))
    assert entries[".gitattributes"].data.decode().splitlines() == [
        "*.txt text",
        "*.parquet filter=lfs diff=lfs merge=lfs -text",
    ]
    mark = len(hub.requests)
    push(converted, REPO)
    assert "commit" not in hub.kinds(since=mark)


@pytest.mark.parametrize("state", ["fresh", "private", "earlier-push-with-images"])
@pytest.mark.parametrize("kind", ["folder", "map-style", "stream"])
def test_without_flags_no_pixels_and_nothing_public(kind, state, hub, converted, builder, jpegs):
    """On a new or an existing repository: no image in anything that was sent, and nobody else may read."""
    source = converted if kind == "folder" else builder(streaming=kind == "stream")
    if state == "private":
        _api(hub).create_repo(REPO, repo_type="dataset", private=True)
    elif state == "earlier-push-with-images":
        push(converted, REPO, include_images=True)
        assert received_any_of(hub, jpegs)  # so the check would see them
    hub.requests.clear()
    private = []
    hub.watch = lambda request, moment: (
        private.append(all(repository.private for repository in hub.store.repositories.values())) and None
    )
    result = push(source, REPO)
    assert not received_any_of(hub, jpegs)
    assert not any(image in data for image in jpegs for data in hub.files(REPO).values())
    assert private
    assert all(private)
    assert (result.is_private, result.has_images, result.dropped_columns) == (True, False, ("image",))
    with pytest.raises(Exception, match=r"40[14]|not found"):
        _api(hub, hub.other_token).repo_info(REPO, repo_type="dataset")


@pytest.mark.parametrize("include_images", [False, True])
@pytest.mark.parametrize("is_gated", [False, True])
@pytest.mark.parametrize("revision", [None, "new"])
def test_a_public_repository_is_refused(include_images, is_gated, revision, hub, converted):
    """Nothing at all is sent to a repository that everybody can read or ask for."""
    api = _api(hub)
    api.create_repo(REPO, repo_type="dataset", private=False)
    hub.repository(REPO).gated = is_gated
    hub.requests.clear()
    with pytest.raises(ConfigError, match="everybody can read"):
        push(converted, REPO, include_images=include_images, revision=revision)
    assert {request.method for request in hub.requests} == {"GET"}


def test_a_repository_that_becomes_public_meanwhile(hub, converted, monkeypatch):
    """Between two commits somebody opens the repository: the push ends there, without its card."""
    monkeypatch.setattr("sa1b_hf.hub._COMMIT_FILES", 2)

    def open_to_all(request, moment):
        if request.kind == "commit" and moment == "after":
            hub.repository(REPO).private = False

    hub.watch = open_to_all
    with pytest.raises(ConfigError, match="everybody can read"):
        push(converted, REPO)
    assert hub.kinds().count("commit") == 1
    assert "README.md" not in hub.files(REPO)


def test_a_hub_that_makes_public_what_was_to_be_private(hub, converted, monkeypatch):
    """Whether a new repository is private is looked up, not believed."""

    def make_public(request, moment):
        if request.kind == "create" and moment == "after":
            hub.repository(REPO).private = False

    hub.watch = make_public
    with pytest.raises(ConfigError, match="everybody can read"):
        push(converted, REPO)
    assert set(hub.kinds()) == {"info", "create"}


def test_public_and_images_are_explicit(hub, converted, caplog):
    """Both flags: it is done, with a warning about the licence; the result and the card say so."""
    result = push(converted, REPO, public=True, include_images=True)
    assert not result.is_private
    assert "PUBLIC, with images" in str(result)
    assert "images are about to be public" in caplog.text
    assert "Treat passing on its images as not granted" in hub.files(REPO)["README.md"].decode()
    hub.clear()
    caplog.clear()
    assert not push(converted, REPO, public=True, dry_run=True).is_private
    assert not push(converted, REPO, public=True).is_private
    assert not caplog.text
    hub.repository(REPO).private = True
    assert push(converted, REPO, public=True).is_private


@pytest.mark.parametrize(
    ("name", "feature", "value"),
    [
        ("jpg", Value("binary"), b"\xff\xd8\xff" * 9),
        ("large", Value("large_binary"), b"\xff\xd8\xff" * 9),
        ("thumbnail", Image(), {"bytes": b"\xff\xd8\xff" * 9, "path": "x.jpg"}),
        ("inner", {"picture": Image()}, {"picture": {"bytes": b"\xff\xd8\xff" * 9, "path": None}}),
        ("crops", [Image()], [{"bytes": b"\xff\xd8\xff" * 9, "path": None}]),
        ("gray", [Value("uint8")], list(b"\xff\xd8\xff" * 9)),
        ("array", datasets.Array2D((1, 3), "float32"), [[1.0, 2.0, 3.0]]),
        ("rgb", [[[Value("float32")]]], [[[1.0, 2.0, 3.0]]]),
    ],
)
def test_pixels_in_disguise_stay_here(name, feature, value, hub):
    """A column of any kind that could hold pixels is left out, and named."""
    features = Features({"image_id": Value("int64"), name: feature, "embedding": [Value("float32")]})
    source = Dataset.from_dict({"image_id": [1], name: [value], "embedding": [[0.5]]}, features=features)
    result = push(source, REPO)
    assert result.dropped_columns == (name,)
    assert f"`{name}`" in hub.files(REPO)["README.md"].decode()
    assert not received_any_of(hub, [b"\xff\xd8\xff" * 9])


def test_what_is_no_pixels_goes_along(hub, load):
    """Labels with embeddings, boxes and texts are not taken for pixels, and come back as they were."""
    label = {"label_ids": [Value("int32")], "scores": [Value("float32")], "embedding": [Value("float16")]}
    features = Features({"image_id": Value("int64"), "labels": [label], "points": [[Value("float64")]]})
    rows = [
        {"image_id": 1, "labels": [{"label_ids": [3], "scores": [0.5], "embedding": [0.25]}], "points": [[1.0, 2.0]]}
    ]
    assert push(Dataset.from_list(rows, features=features), REPO).dropped_columns == ()
    loaded = load()
    assert loaded.features == features
    assert list(loaded) == rows


def test_no_traces_in_image_paths(hub, load):
    """A path or a link beside an image's bytes goes out as the file's name alone."""
    features = Features({"image_id": Value("int64"), "image": Image()})
    paths = ["/data/ada/secret/sa_1.jpg", "https://x.org/a/sa_2.jpg?oh=canary&oe=1", None]
    images = [{"bytes": b"\xff\xd8\xff", "path": path} for path in paths]
    push(Dataset.from_dict({"image_id": [1, 2, 3], "image": images}, features=features), REPO, include_images=True)
    assert [row["image"]["path"] for row in rows_of(load(streaming=True))] == ["sa_1.jpg", "sa_2.jpg", None]


def test_reencoded_images_are_refused(hub, builder):
    """A stream whose images went through Python would send other bytes: it says so, and how to avoid it."""
    stream = builder(streaming=True).filter(many_masks)
    with pytest.raises(ConfigError, match="decode=False"):
        push(stream, REPO, include_images=True)
    assert not hub.store.uploads
    assert push(stream, REPO, include_images=True, allow_reencoded=True).uploaded == 1
    assert push(stream, REPO).dropped_columns == ("image",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: 7, "found int"),
        (dict, "found dict"),
        (lambda: {"a/b": Dataset.from_dict({"image_id": [1]})}, "expected a word"),
        (lambda: Dataset.from_dict({"x": [1]}), "expected image_id"),
        (lambda: Dataset.from_dict({"image_id": [1]}).select([]), "expected rows"),
        (lambda: "/nowhere", "expected a converted folder"),
        (
            lambda: Dataset.from_dict({"image_id": [1]}).to_iterable_dataset().map(lambda row: row),
            "without; pass features=",
        ),
    ],
)
def test_sources_that_cannot_be_pushed(make, message, hub):
    """Each is refused before a repository is made."""
    with pytest.raises(ConfigError, match=message):
        push(make(), REPO)
    assert hub.store.repositories == {}


def test_a_damaged_part_is_refused(hub, shards, tmp_path):
    """A part that is not what its manifest says, or that is gone, does not leave the machine."""
    process_shard(shards[0].path, tmp_path / "out")
    (part,) = (tmp_path / "out").glob("data/train/*.parquet")
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(data)
    with pytest.raises(ConfigError, match="SHA-256"):
        push(tmp_path / "out", REPO)
    part.unlink()
    with pytest.raises(ConfigError, match="convert again"):
        push(tmp_path / "out", REPO)
    assert hub.store.repositories == {}


def test_the_card_of_somebody_is_kept(hub, converted):
    """A card that no push wrote is replaced only when told so."""
    api = _api(hub)
    api.create_repo(REPO, repo_type="dataset", private=True)
    api.upload_file(path_or_fileobj=b"# Mine", path_in_repo="README.md", repo_id=REPO, repo_type="dataset")
    mark = len(hub.requests)
    with pytest.raises(ConfigError, match="somebody's own"):
        push(converted, REPO)
    assert {request.method for request in hub.requests[mark:]} <= {"GET", "HEAD"}
    push(converted, REPO, replace_card=True)
    assert is_true(hub.files(REPO))


def test_a_branch(hub, converted, load):
    """A push to another branch makes it, and leaves the main one alone."""
    push(converted, REPO, revision="v2")
    assert list(hub.files(REPO)) == [".gitattributes"]
    assert len(rows_of(load(streaming=True, revision="v2"))) == 41


def test_dry_run(hub, converted):
    """It says what would be sent, and sends nothing."""
    planned = push(converted, REPO, dry_run=True)
    assert {request.method for request in hub.requests} == {"GET"}
    done = push(converted, REPO)
    assert (planned.uploaded, planned.uploaded_bytes) == (done.uploaded, done.uploaded_bytes)
    assert "would be uploaded" in str(planned)
    assert push(converted, REPO, dry_run=True).uploaded == 0


@pytest.mark.parametrize(
    ("who", "repo", "message", "reason"),
    [
        ("nobody", REPO, "hf auth login", "hub-401"),
        ("bob", REPO, "may write", "hub-403"),
        ("ada", "bob/x", "may write", "hub-403"),
        ("ada", "a/b/c", "user/name", None),
        ("ada", "subset", "user/name", None),
        ("ada", "ada/a..b", "that the Hub takes", None),
    ],
)
def test_who_may_not_push(who, repo, message, reason, hub, converted):
    """Each refusal has a reason and says what to do."""
    token = {"nobody": False, "bob": hub.other_token, "ada": hub.token}[who]
    with pytest.raises((SourceError, ConfigError), match=message) as caught:
        push(converted, repo, token=token)
    assert getattr(caught.value, "reason", None) == reason
    assert not hub.store.uploads


@pytest.mark.parametrize(
    "fault", [None, Fault("lfs-put", status=403, times=99), Fault("commit", status=403), Fault("info", status=401)]
)
def test_no_secret_leaves(fault, hub, converted, caplog, capfd):
    """Token and upload signature are in no log, output, error or traceback with variables, whatever happens."""
    caplog.set_level(logging.DEBUG)
    hub.signature = "canary-signature"
    kept = []
    if fault:
        hub.faults.append(fault)
    try:
        kept.append(push(converted, REPO, token=hub.token))
    except SourceError as error:
        kept += [error, *traceback.TracebackException.from_exception(error, capture_locals=True).format()]
    assert any("canary-signature" in request.path for request in hub.requests) or fault
    assert any(request.token == hub.token for request in hub.requests)
    printed = capfd.readouterr()
    texts = [printed.out, printed.err, caplog.text, *map(str, kept), *map(repr, kept)]
    texts += [pickle.dumps(item).decode("latin-1") for item in kept]
    texts += [data.decode("latin-1") for data in (hub.files(REPO) if hub.store.repositories else {}).values()]
    assert not [text[:200] for text in texts if "canary-signature" in text or hub.token in text]


@pytest.mark.parametrize("on_missing", ["raise", "drop", "none"])
@pytest.mark.parametrize("streaming", [False, True])
def test_rehydrating_with_a_shard_missing(on_missing, streaming, builder, shards, caplog):
    """Rows whose image is nowhere raise, go, or stay empty, as told; they are counted, or of a stream their shard named."""
    rows = builder(image=False, streaming=streaming)
    if on_missing == "raise":
        with pytest.raises(PairingError, match="add the shard"):
            list(rehydrate(rows, shards[0].path))
        return
    whole = rehydrate(rows, shards[0].path, on_missing=on_missing)
    images = [row["image"] for row in whole]
    assert len(images) == (20 if on_missing == "drop" else 41)
    assert sum(image is not None for image in images) == 20
    warned = ["sa_000001: images of it"] if streaming else ["21 of 41 images"]
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text in message for text, message in zip(warned, messages, strict=True)] == [True]


def test_rehydrating_without_shard_names(builder, shards):
    """All shards are searched then; ids that are in none are as missing as ever."""
    rows = builder(image=False).remove_columns("shard")
    whole = rehydrate(rows, [shard.path for shard in shards])
    assert hashes_of(rows_of(whole)) == hashes_of(rows_of(builder(streaming=True)))
    strangers = Dataset.from_dict({"image_id": [987654, 1, 987655]})
    with pytest.raises(PairingError, match=r"2 of 3 images, such as sa_987654.jpg, in any of 3 shards"):
        rehydrate(strangers, [shard.path for shard in shards])


def test_rehydrating_refuses_rows_of_another_size(builder, shards):
    """A row whose masks would not fit the image is an error."""
    rows = builder(image=False).map(lambda row: {"width": row["width"] // 2})
    with pytest.raises(ImageError):
        rehydrate(rows, [shard.path for shard in shards])


@pytest.mark.parametrize("streaming", [False, True])
def test_rehydrating_from_a_damaged_shard(streaming, builder, shards, tmp_path, caplog):
    """A cut shard is an error, or counts as not there where rows may go; the other shards serve."""
    rows = builder(image=False, streaming=streaming)
    cut = tmp_path / "sa_000001.tar"
    data = shards[1].path.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(ShardError, match="sa_000001"):
        list(rehydrate(rows, [shards[0].path, cut]))
    assert len(list(rehydrate(rows, [shards[0].path, cut], on_missing="drop"))) == 20
    assert caplog.text.count("sa_000001 is left out") == 1


def test_rehydrating_in_processes(builder, shards, tmp_path):
    """What does the work can be pickled, open files or not."""
    rows = builder(image=False)
    whole = rehydrate(rows, [shard.path for shard in shards], index_dir=tmp_path / "i", num_proc=2)
    assert rows_of(whole) == rows_of(builder(streaming=True))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda rows, shards: rehydrate(rows, shards, on_missing="ignore"), ConfigError, "on_missing"),
        (
            lambda rows, shards: rehydrate(rows.add_column("image", [None] * 41), shards),
            ConfigError,
            "none named image",
        ),
        (lambda rows, shards: rehydrate(rows, []), MissingShardsError, "found none"),
        (lambda rows, shards: rehydrate([1], shards), ConfigError, "found list"),
    ],
)
def test_rehydrating_refuses(call, error, message, builder, shards):
    """What makes no sense is said at once."""
    with pytest.raises(error, match=message):
        call(builder(image=False), [shard.path for shard in shards])


def test_command(hub, converted, monkeypatch):
    """`sa1b push`: a plan, the push, and a question before images become public."""
    import json

    from click.testing import CliRunner

    from sa1b_hf.cli import main

    def run(*arguments, **options):
        return CliRunner().invoke(main, ["push", str(converted), REPO, *arguments], **options)

    planned = run("--dry-run", "--format", "json")
    assert planned.exit_code == 0, planned.output
    assert json.loads(planned.stdout)["is_dry_run"] is True
    assert run().stdout.startswith(f"{REPO}: private, without images, rows: train 41; ")
    assert run("--format", "quiet").stdout == ""
    refused = run("--include-images", "--public", input="n\n")
    assert refused.exit_code == 1
    assert "Research License" in refused.output
    hub.clear()
    assert "PUBLIC, with images" in run("--include-images", "--public", "--yes").stdout
    wrong = run()
    assert wrong.exit_code == 2
    assert "everybody can read" in wrong.output


def test_memory_is_bounded(hub, tmp_path):
    """A stream far larger than a row group is never whole in memory."""
    features = Features({"image_id": Value("int64"), "image": Image()})
    size, count = 1 << 18, 800

    def generate():
        for number in range(count):
            yield {
                "image_id": number,
                "image": {"bytes": number.to_bytes(2, "big") * (size // 2), "path": f"{number}.jpg"},
            }

    stream = datasets.IterableDataset.from_generator(generate, features=features)
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    peaks = []

    def follow(row):
        peaks.append(pool.bytes_allocated() - before)
        return True

    stream = stream.cast_column("image", Image(decode=False)).filter(follow)
    push(stream, REPO, include_images=True, work_dir=tmp_path, dry_run=True)
    assert len(peaks) == count
    assert max(peaks) < 0.6 * count * size
    assert not list(tmp_path.iterdir())


def test_card_metadata_counts(hub, converted):
    """The number of rows in the card is that of the files, and loading checks it."""
    result = push(converted, REPO)
    info = card_data(hub.files(REPO))["dataset_info"]
    assert info["splits"][0]["num_examples"] == result.rows["train"] == 41
    assert info["download_size"] == result.num_bytes
