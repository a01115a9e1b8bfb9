"""Inside one original shard: several processes, several threads, random access, salvage, each against its rivals.

    PYTHONPATH=. python benchmarks/bench_gzsync.py [--images 200] [--keep FOLDER]

Rivals that are not installed (`rapidgzip`, `indexed_gzip`) are left out. Rates are medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import statistics
import subprocess
import tarfile
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets

from sa1b_hf import load_dataset
from sa1b_hf.index import build_index
from sa1b_hf.reader import ReadOptions, iter_batches
from sa1b_hf.salvage import SalvageReport, iter_salvaged_members
from sa1b_hf.shard import SA1BShard
from sa1b_hf.source import open_shard
from sa1b_hf.testing import make_shard

ROUNDS = 3
PROCESS_ROUNDS = 5  # memory that a virtual machine gives back and fetches again makes single ones differ by a tenth
CHUNK = 1 << 20


def make(folder: Path, num_images: int, order: str) -> Path:
    """A shard with sizes like the released ones, compressed by GNU gzip -6 as they are."""
    path = folder / f"{order}-{num_images}" / "sa_000000.tar"
    if not path.exists():
        plain = path.with_name("plain.tar")
        make_shard(plain, num_images=num_images, preset="full", compression="none", order=order)
        with path.with_suffix(".part").open("wb") as file:
            subprocess.run(["gzip", "-6", "-c", str(plain)], stdout=file, check=True)
        path.with_suffix(".part").replace(path)
        plain.unlink()
    return path


def interleaved(contenders: dict, rounds: int = ROUNDS) -> dict[str, tuple[float, float]]:
    """Median wall and CPU seconds of each."""
    times: dict[str, list] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            wall, cpu = time.perf_counter(), os.times()
            run()
            now = os.times()
            times[name].append((time.perf_counter() - wall, sum(now[:4]) - sum(cpu[:4])))
    return {name: tuple(map(statistics.median, zip(*found, strict=True))) for name, found in times.items()}


def count_part(task) -> int:
    """Rows of a part."""
    path, part, index_dir = task
    return sum(
        batch.num_rows for batch in iter_batches(path, "sa_000000", ReadOptions(index_dir=index_dir), None, part)
    )


def bench_processes(path: Path, title: str, index_dir: str | None) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        parts = [(path, (index, 2), index_dir) for index in range(2)]
        list(pool.map(count_part, parts))  # builds the index
        counts: set[int] = set()

        def run(tasks: list) -> None:
            counts.add(sum(pool.map(count_part, tasks)))

        def run_apart() -> None:
            list(pool.map(count_part, [(path, None, None)] * 2))

        contenders = {"one": lambda: run([(path, None, None)]), "two": lambda: run(parts), "apart": run_apart}
        found = interleaved(contenders, PROCESS_ROUNDS)
    assert len(counts) == 1
    one, two, apart = (found[name][0] for name in contenders)
    print(f"processes, {title}: 1 {counts.pop() / one:.0f} images/s, 2 {one / two:.2f}x; ", end="")
    print(f"limit, two that read a whole shard each, {2 * one / apart:.2f}x")


def drain(path: Path, threads: int) -> None:
    with open_shard(path, inflate_threads=threads) as cursor:
        while cursor.skip(CHUNK):
            pass


def drain_file(file) -> None:
    with file:  # rapidgzip aborts the process at exit if it is not closed
        while file.read(CHUNK):
            pass


def bench_inflate(path: Path, size: int) -> None:
    contenders = {"sa1b_hf, 1 thread": lambda: drain(path, 1), "sa1b_hf, 2 threads": lambda: drain(path, 2)}
    try:
        import rapidgzip

        contenders["rapidgzip, 2 threads"] = lambda: drain_file(rapidgzip.open(str(path), parallelization=2))
    except ImportError:
        pass
    for name, (wall, cpu) in interleaved(contenders).items():
        print(f"inflate, {name}: {size / wall / 1e6:.0f} MB/s wall, {size / cpu / 1e6:.0f} MB/s per CPU second")


def bench_access(path: Path, size: int) -> None:
    index = build_index(path)
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")
        per_image = (Path(folder) / "index").stat().st_size / len(index.image_ids)
    print(f"index: {per_image:.1f} bytes an image, {len(index.points) / size * 1e9:.0f} points a GB")
    ids = random.Random(0).sample(index.image_ids, min(60, len(index.image_ids)))
    shard = SA1BShard(path, index)
    contenders = {"sa1b_hf": lambda: [shard.read(image_id, "jpg") for image_id in ids]}
    places = [index.members["jpg"][image_id] for image_id in ids]

    def seek(file) -> None:
        for place in places:
            file.seek(place.offset)
            assert len(file.read(place.size)) == place.size

    try:
        import rapidgzip

        rapid = rapidgzip.open(str(path), parallelization=1)
        while rapid.read(CHUNK):
            pass
        contenders["rapidgzip"] = lambda: seek(rapid)
    except ImportError:
        pass
    try:
        import indexed_gzip

        indexed = indexed_gzip.IndexedGzipFile(str(path), spacing=1 << 20)
        indexed.build_full_index()
        contenders["indexed_gzip"] = lambda: seek(indexed)
    except ImportError:
        pass
    found = interleaved(contenders)
    if "rapidgzip" in contenders:
        rapid.close()
    for name, (_, cpu) in found.items():
        print(f"random access, {name}: {len(ids) / cpu:.0f} JPEGs per CPU second")
    bench_remote(path, index, ids)


class SlowServer(BaseHTTPRequestHandler):
    """Range requests on one file, each answered after 30 ms."""

    protocol_version = "HTTP/1.1"
    data = b""
    count = 0

    def do_GET(self) -> None:
        type(self).count += 1
        time.sleep(0.03)
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "bytes=0-").groups()
        body = memoryview(self.data)[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{len(self.data)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    """Says nothing of clients that leave early."""

    def handle_error(self, *args) -> None:
        pass


def serve(path: Path, port, count) -> None:
    SlowServer.data = path.read_bytes()
    with QuietServer(("127.0.0.1", 0), SlowServer) as server:
        port.send(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port.recv()
        count.value = SlowServer.count
        server.shutdown()


def bench_remote(path: Path, index, ids) -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    count = context.Value("i", 0)
    process = context.Process(target=serve, args=(path, there, count))
    process.start()
    remote, times = SA1BShard(f"http://127.0.0.1:{here.recv()}/sa_000000.tar", index), []
    for image_id in ids:
        began = time.perf_counter()
        remote.read(image_id, "jpg")
        times.append(time.perf_counter() - began)
    here.send(None)
    process.join()
    print(
        f"random access over a server with 30 ms latency: {statistics.median(times) * 1000:.0f} ms median, "
        f"{(count.value - 1) / len(ids):.2f} requests a JPEG"
    )


def bench_salvage(path: Path, folder: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 65_536] = random.Random(0).randbytes(65_536)
    damaged = folder / "damaged.tar"
    damaged.write_bytes(data)
    report = SalvageReport()
    began = time.perf_counter()
    found = sum(1 for _ in iter_salvaged_members(damaged, report))
    seconds = time.perf_counter() - began
    standard = 0
    try:
        with tarfile.open(damaged, "r:gz") as tar:
            for member in tar:
                if member.isfile() and tar.extractfile(member).read():
                    standard += 1
    except Exception as error:
        print(f"salvage, tarfile ends with {type(error).__name__}")
    print(
        f"salvage: {found} members in {seconds:.1f} s, tarfile {standard}; "
        f"lost: {[(loss.reason, loss.name) for loss in report.lost]}"
    )
    damaged.unlink()


def bench_resume(path: Path, title: str) -> None:
    """Time to the next example after `load_state_dict`, and the time that reading up to there took."""
    ds = load_dataset("sa1b.py", data_files=[str(path)], split="train", streaming=True)
    ds = ds.cast_column("image", datasets.Image(decode=False))
    count = sum(batch.num_rows for batch in iter_batches(path, "sa_000000"))
    chosen = set(random.Random(0).sample(range(1, count), 20))
    found, state, began = [], None, time.perf_counter()
    for number, row in enumerate(ds):
        if number in chosen:
            found.append((row["image_id"], state, time.perf_counter() - began))
        if number + 1 in chosen:
            state = json.loads(json.dumps(ds.state_dict()))
    times = []
    for image_id, before, prefix in found:
        ds.load_state_dict(before)
        began = time.perf_counter()
        assert next(iter(ds))["image_id"] == image_id
        times.append((time.perf_counter() - began, prefix))
    resumed, prefix = map(sum, zip(*times, strict=True))
    worst = max(after / before for after, before in times)
    size = max(len(json.dumps(before)) for _, before, _ in found)
    print(
        f"resume, {title}: next example after {1000 * resumed / 20:.0f} ms on average, {resumed / prefix:.2%} of the "
        f"prefixes' time, at worst {worst:.2%}; largest state {size / 1000:.0f} KB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--only", choices=["processes", "inflate", "access", "salvage", "resume"])
    parser.add_argument("--keep", type=Path, help="folder for the shards; a temporary one by default")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    datasets.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        path = make(folder, options.images, "random")
        with open_shard(path) as cursor:
            size = cursor.skip(1 << 60)
        print(f"{options.images} images, {path.stat().st_size / 1e6:.0f} MB of gzip, {size / 1e6:.0f} MB of tar")
        beside = make(folder, options.images, "sorted")

        def is_wanted(what: str) -> bool:
            return options.only in {None, what}

        # first, so that the processes are not forked from one with the memory of all the rest
        if is_wanted("processes"):
            bench_processes(beside, "images beside their documents", None)
            bench_processes(path, "random order, with an index", str(path.parent))
            bench_processes(path, "random order, without", None)
        if is_wanted("inflate"):
            bench_inflate(path, size)
        if is_wanted("access"):
            bench_access(path, size)
        if is_wanted("salvage"):
            bench_salvage(path, folder)
        if is_wanted("resume"):
            bench_resume(path, "random order")
            bench_resume(beside, "images beside their documents")


if __name__ == "__main__":
    main()
