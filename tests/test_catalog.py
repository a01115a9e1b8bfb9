"""The catalogue against the published measurements, and its parsers against text of every kind."""

import itertools
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa1b_hf.catalog import (
    NUM_IMAGES,
    SHARD_NAMES,
    SUBSETS,
    KnownBad,
    ShardInfo,
    identify_md5,
    parse_shard_name,
    parse_shard_ranges,
    shard_file_name,
    shard_info,
    shard_name,
    shard_of,
)
from sa1b_hf.errors import ConfigError

PER_SHARD = 11_186
BAD_SHARDS = [14, 16, 17, 19]


def test_every_shard_has_a_name_and_an_md5_of_its_own():
    """The data file has 1000 rows in order, each with a plausible and unique MD5."""
    infos = [shard_info(number) for number in range(1000)]
    assert [info.number for info in infos] == list(range(1000))
    assert tuple(info.name for info in infos) == SHARD_NAMES
    assert all(info.file_name == shard_file_name(info.number) for info in infos)
    assert len({info.md5 for info in infos}) == 1000
    assert all(len(info.md5) == 32 and set(info.md5) <= set("0123456789abcdef") for info in infos)


def test_confirmed_shards_are_those_that_somebody_measured():
    """Of the first 51 shards all are confirmed but the four whose mirror copies are damaged."""
    confirmed = [number for number in range(1000) if shard_info(number).md5_confirmed]
    assert confirmed == [number for number in range(51) if number not in BAD_SHARDS]
    assert all(shard_info(number).num_images == PER_SHARD for number in confirmed)


def test_known_and_unknown_figures_are_told_apart():
    """A measured shard has sizes and hashes, an unmeasured one has None, never 0 or an empty string."""
    assert shard_info(0) == ShardInfo(
        number=0,
        name="sa_000000",
        file_name="sa_000000.tar",
        md5="78d0f487c735a3de86ae6e1b0ff24ea9",
        md5_confirmed=True,
        size_bytes=11_222_978_468,
        num_images=PER_SHARD,
        sha256="1b94d9ad5556f5cd5094a41413a04790c30722b662874671ac86e42c56f20c30",
    )
    last = shard_info(999)
    assert (last.md5_confirmed, last.size_bytes, last.num_images, last.sha256, last.known_bad) == (
        False,
        *[None] * 3,
        (),
    )


@pytest.mark.parametrize("number", BAD_SHARDS)
def test_damaged_mirror_copies_are_known_by_hash(number):
    """The MD5 of a damaged copy leads to what it is and to advice, not to the genuine shard."""
    (bad,) = shard_info(number).known_bad
    found = identify_md5(bad.md5)
    assert isinstance(found, KnownBad)
    assert found is bad
    assert shard_name(number) in found.advice
    assert "Download the shard again" in found.advice


@pytest.mark.parametrize("change", [str, str.upper, lambda text: f" {text}\n"])
def test_genuine_md5_is_identified_in_any_spelling(change):
    """Case and surrounding blanks of an MD5 do not matter."""
    assert identify_md5(change(shard_info(123).md5)) is shard_info(123)


def test_unknown_md5_is_nothing():
    """An MD5 that nobody published identifies nothing."""
    assert identify_md5("0" * 32) is None


@pytest.mark.parametrize("number", [-1, 1000, 1.0, True, "0", None, np.array([1, 2])])
@pytest.mark.parametrize("function", [shard_name, shard_file_name, shard_info])
def test_no_such_shard(function, number):
    """A number that is no shard's is refused with the allowed range."""
    with pytest.raises(ConfigError, match=r"expected numbers from 0 to 999, found"):
        function(number)


@given(number=st.integers(0, 999), suffix=st.sampled_from(["", ".tar", ".tar.gz", ".tgz"]))
def test_shard_names_round_trip(number, suffix):
    """A shard's number comes back from its name with any suffix, folder, URL and query."""
    name = shard_name(number) + suffix
    for text in (name, f"./{name}", f"C:\\data\\{name}", f"https://h/sa_000001.tar/{name}?oh=/sa_000002.tar#x"):
        assert parse_shard_name(text) == number
    assert parse_shard_name(pathlib.Path("folder") / name) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sa_co_gold.tar",
        "sa_images_ids.txt",
        "sa_00020.tar",
        "sa_0000020.tar",
        "sa_001000.tar",
        "sa_223750",
        "sa_000020.jpg",
        "sa_000020.tar.part",
        "xsa_000020.tar",
        "sa_000020.tar/",
        "sa_000020.tar\n",
        "sa_٠٠٠٠٢٠.tar",
        "https://h/x.tar?name=sa_000020.tar",
        "https://h/?/sa_000020.tar",
    ],
)
def test_other_names_are_not_shards(text):
    """Nothing else passes for a shard, not even a query that ends like one."""
    assert parse_shard_name(text) is None


@pytest.mark.parametrize(
    ("shards", "expected"),
    [
        ("0-3,20", (0, 1, 2, 3, 20)),
        (" 20 , 1 - 2,1", (1, 2, 20)),
        ("000007", (7,)),
        (7, (7,)),
        (np.int64(7), (7,)),
        (range(3), (0, 1, 2)),
        ([5, 3, 5], (3, 5)),
        (np.array([2, 1]), (1, 2)),
        (SUBSETS["1pct"], tuple(range(10))),
    ],
)
def test_shard_ranges(shards, expected):
    """Text, numbers and iterables give sorted, unique, plain integers."""
    found = parse_shard_ranges(shards)
    assert found == expected
    assert all(type(number) is int for number in found)


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ("", "expected numbers and ranges such as '0-9,20', found ''"),
        ("1,,2", "found '' in '1,,2'"),
        ("1-", "found '1-'"),
        ("a-b", "found 'a-b'"),
        ("-1", "found '-1'"),
        ("1-2-3", "found '1-2-3'"),
        ("9-0", "runs backwards; write '0-9'"),
        ("999-1000", "from 0 to 999, found 1000"),
        ("9999999999", "found '9999999999'"),
        ([], "expected at least one shard"),
        ([1, 1.5], r"found 1\.5"),
        ([True], "found True"),
        (None, "found None"),
        (-1, "found -1"),
    ],
)
def test_nonsense_shard_ranges_are_refused(shards, message):
    """Each kind of nonsense is quoted back in a ConfigError."""
    with pytest.raises(ConfigError, match=message):
        parse_shard_ranges(shards)


def test_subsets_are_nested_and_read_only():
    """The subsets are those of the configurations, and nobody can change them."""
    assert {name: len(shards) for name, shards in SUBSETS.items()} == {"1pct": 10, "10pct": 100, "full": 1000}
    with pytest.raises(TypeError):
        SUBSETS["2pct"] = range(20)


@pytest.mark.parametrize(
    ("image_id", "shard"),
    [
        (0, 0),
        (1, 0),
        (2948, 0),
        (223_749, 19),
        (223_750, 20),
        (226_381, 20),
        (425_143, 37),
        (425_144, 38),
        (436_332, 38),
    ],
)
def test_measured_ids_lead_to_their_shard_alone(image_id, shard):
    """Where a boundary was measured the answer is that one shard."""
    assert list(shard_of(image_id)) == [shard]


def first_ids(short_shard, where_gaps, rate):
    """First ids of 1001 shards as extreme as the measurements allow: one short shard, and each stretch's gaps at once."""
    short = [0] * 1000
    short[short_shard] = 1000 * PER_SHARD - NUM_IMAGES
    drift = {0: 0, 20: 30, 38: 76, 39: 79, 138: 299}
    for left, right in itertools.pairwise(sorted(drift)):
        gaps = drift[right] - drift[left] + sum(short[left:right])
        jump = {"early": left + 1, "middle": (left + right) // 2 + 1, "late": right}[where_gaps]
        for number in range(left + 1, right):
            drift[number] = drift[left] + gaps * (number >= jump) - sum(short[left:number])
    for number in range(139, 1001):
        drift[number] = drift[number - 1] + rate - short[number - 1]
    return [PER_SHARD * number + drift[number] for number in range(1001)]


@pytest.mark.parametrize("short_shard", [51, 90, 137, 138, 500, 999])
@pytest.mark.parametrize("where_gaps", ["early", "middle", "late"])
@pytest.mark.parametrize("rate", [0, 2, 10])
def test_shard_of_holds_for_every_layout_that_agrees_with_the_measurements(short_shard, where_gaps, rate):
    """Whatever the unmeasured shards look like, the range contains the shard of each image and is at most two wide."""
    starts = first_ids(short_shard, where_gaps, rate)
    for number in range(1000):
        for image_id in (starts[number], starts[number] + 600, starts[number + 1] - 1):
            found = shard_of(image_id)
            assert number in found, (number, image_id)
            assert len(found) <= 2


@settings(max_examples=200)
@given(st.integers(0, 12_000_000) | st.integers(0, 2**63))
def test_shard_of_gives_few_existing_shards(image_id):
    """Any id gives at most two shards, all existing, and rising with the id."""
    found = shard_of(image_id)
    assert len(found) <= 2
    assert all(0 <= number < 1000 for number in found)
    later = shard_of(image_id + PER_SHARD)
    assert not (found and later) or later.start >= found.start


def test_shard_of_is_empty_past_the_end():
    """An id far past the last shard is in no shard."""
    assert not shard_of(12_000_000)


@pytest.mark.parametrize("image_id", [-1, 1.5, True, "1", None])
def test_shard_of_refuses_what_is_no_id(image_id):
    """A negative or non-integer id is refused."""
    with pytest.raises(ConfigError, match="image_id: expected an integer of 0 or more"):
        shard_of(image_id)


def test_import_does_not_read_the_data_file():
    """Importing the catalogue stays cheap: the table is read at the first question."""
    code = "from sa1b_hf import catalog, _shard_table; print(_shard_table.shard_table.cache_info().currsize)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "0"
