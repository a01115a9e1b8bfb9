"""Compare downloads in one run: this package, curl and aria2c (where installed), from one loopback server.

    python benchmarks/bench_download.py --size-mb 1024 --rounds 3
    python benchmarks/bench_download.py --size-mb 256 --kills 10

Rounds are interleaved; medians are printed. CPU is that of the client alone. This package always checks what it
fetched: its MD5 pass is part of "total" and not of "fetch", as md5sum is for curl. MD5 can neither be spread over cores
nor be avoided: what it takes alone is printed too. RSS is the peak of the process, all imports included.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

NAME = "sa_000000"
REPOSITORY = Path(__file__).parent.parent


class Server:
    """Serves one file with ranges, by sendfile, optionally at so many bytes per second and connection."""

    def __init__(self, path: Path, rate: float) -> None:
        self._fd = os.open(path, os.O_RDONLY)
        self._size = os.fstat(self._fd).st_size
        self._rate = rate
        self._sent = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        print(self._listener.getsockname()[1], flush=True)

    def run(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                pending = b""
                while True:
                    while b"\r\n\r\n" not in pending:
                        data = client.recv(65536)
                        if not data:
                            return
                        pending += data
                    head, _, pending = pending.partition(b"\r\n\r\n")
                    self._answer(client, head.decode("latin-1"))
        except OSError:
            pass

    def _answer(self, client: socket.socket, head: str) -> None:
        if head.split(" ", 2)[1] == "/sent":
            body = str(self._sent).encode()
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return
        asked = re.search(r"(?im)^range: bytes=(\d+)-(\d*)", head)
        first = int(asked[1]) if asked else 0
        end = min(self._size, int(asked[2]) + 1) if asked and asked[2] else self._size
        lines = [f"HTTP/1.1 {'206 Partial Content' if asked else '200 OK'}", f"Content-Length: {end - first}"]
        lines += [f"Content-Range: bytes {first}-{end - 1}/{self._size}"] if asked else []
        lines += ['ETag: "one"', "Accept-Ranges: bytes", "Content-Type: application/octet-stream", "", ""]
        client.sendall("\r\n".join(lines).encode())
        if head.startswith("HEAD"):
            return
        step = int(self._rate / 50) if self._rate else 1 << 20
        began, start = time.monotonic(), first
        while first < end:
            count = os.sendfile(client.fileno(), self._fd, first, min(step, end - first))
            first += count
            self._sent += count
            if self._rate:
                time.sleep(max(0, began + (first - start) / self._rate - time.monotonic()))


def client(url: str, folder: str, md5: str, connections: int) -> None:
    """Download once and print what it took; run in a process of its own."""
    sys.path.insert(0, str(REPOSITORY))
    from sa1b_hf import _shard_download, verify
    from sa1b_hf.download import DownloadOptions, download

    checking = 0.0

    def timed_verify(*args, **kwargs):
        nonlocal checking
        began, cpu = time.monotonic(), time.process_time()
        report = verify.verify_shard(*args, **kwargs)
        checking = time.monotonic() - began
        figures["check_cpu"] = time.process_time() - cpu
        return report

    figures: dict[str, float] = {}
    _shard_download.verify_shard = timed_verify
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, which a parent's hands down
    began, cpu = time.monotonic(), time.process_time()
    options = DownloadOptions(connections=connections, progress=False, checksums={NAME: md5})
    (shard,) = download(folder, source=url.replace(NAME, "{name}"), shards=0, options=options)
    assert shard.status == "verified"
    figures |= {"total": time.monotonic() - began, "cpu": time.process_time() - cpu}
    figures["fetch"] = figures["total"] - checking
    figures["fetch_cpu"] = figures["cpu"] - figures.pop("check_cpu", 0.0)
    figures["rss_mb"] = memory("VmHWM") / 1024
    print(json.dumps(figures))


def memory(field: str) -> int:
    """Read a field of /proc/self/status, in KiB."""
    return int(re.search(rf"(?m)^{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def start_server(path: Path, rate: float) -> tuple[subprocess.Popen, str]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(path), str(rate)], stdout=subprocess.PIPE, text=True
    )
    return process, f"http://127.0.0.1:{int(process.stdout.readline())}/m/{NAME}.tar"


def run_tool(command: list[str]) -> dict[str, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    total = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"total": total, "fetch": total, "cpu": cpu, "fetch_cpu": cpu}


def run_both(fetching: list[str], checking: list[str]) -> dict[str, float]:
    fetch, check = run_tool(fetching), run_tool(checking)
    return fetch | {"total": fetch["total"] + check["total"], "cpu": fetch["cpu"] + check["cpu"]}


def run_ours(url: str, folder: Path, md5: str, connections: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--client", url, str(folder), md5, str(connections)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def compare(path: Path, md5: str, rounds: int, rate: float) -> None:
    size = path.stat().st_size
    server, url = start_server(path, rate)
    out = path.parent / "out"
    tools = {
        "sa1b_hf, 4 connections": lambda: run_ours(url, out, md5, 4),
        "sa1b_hf, 1 connection": lambda: run_ours(url, out, md5, 1),
    }
    if shutil.which("curl"):
        tools["curl"] = lambda: run_tool(["curl", "-sf", "-o", str(out / "curl.tar"), url])
    if shutil.which("curl") and shutil.which("md5sum"):
        tools["curl, then md5sum"] = lambda: run_both(
            ["curl", "-sf", "-o", str(out / "curl.tar"), url], ["md5sum", str(out / "curl.tar")]
        )
    if shutil.which("aria2c"):
        line = ["aria2c", "-q", "-x4", "-s4", "-k1M", "--file-allocation=none", "-d", str(out), "-o", "aria.tar", url]
        tools["aria2c, 4 connections"] = lambda: run_tool(line)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in tools}
    try:
        for number in range(rounds):
            for name in sorted(tools, key=lambda name: random.Random(f"{number}{name}").random()):
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                results[name].append(tools[name]())
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    print(f"\n{size / 1e6:,.0f} MB, {f'{rate / 1e6:g} MB/s a connection' if rate else 'unthrottled'}, {rounds} rounds")
    print(f"{'':26}{'fetch MB/s':>12}{'total MB/s':>12}{'CPU s/GB':>10}{'with MD5':>10}{'RSS MB':>9}")
    for name, runs in results.items():
        median = {key: statistics.median(run.get(key, 0) for run in runs) for key in runs[0]}
        print(
            f"{name:26}{size / median['fetch'] / 1e6:12,.0f}{size / median['total'] / 1e6:12,.0f}"
            f"{median['fetch_cpu'] / size * 1e9:10.2f}{median['cpu'] / size * 1e9:10.2f}"
            + (f"{median['rss_mb']:9.1f}" if "rss_mb" in median else "")
        )
    if not rate:
        began = time.process_time()
        hashlib.md5(path.read_bytes())
        print(f"MD5 alone: {(time.process_time() - began) / size * 1e9:.2f} CPU s/GB")


def kill_often(path: Path, md5: str, kills: int, rate: float) -> None:
    """Kill the client at random moments and count what was sent twice."""
    server, url = start_server(path, rate)
    out = path.parent / "killed"
    command = [sys.executable, __file__, "--client", url, str(out), md5, "4"]
    rng = random.Random(0)
    done = 0
    try:
        while done < kills:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            try:
                process.wait(2.0 + rng.uniform(0, 1.5 * path.stat().st_size / rate / 4 / kills))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                done += 1
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        sent = int(
            subprocess.run(["curl", "-s", url.split("/m/")[0] + "/sent"], capture_output=True, check=True).stdout
        )
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    assert hashlib.md5((out / f"{NAME}.tar").read_bytes()).hexdigest() == md5
    extra = (sent - path.stat().st_size) / 1e6
    print(f"\n{done} kills: byte-identical, {extra / max(done, 1):.1f} MB sent twice a kill")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size-mb", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--throttle-mb", type=float, default=20, help="MB/s a connection in the throttled comparison")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--client", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        Server(Path(options.serve[0]), float(options.serve[1])).run()
    elif options.client:
        url, folder, md5, connections = options.client
        client(url, folder, md5, int(connections))
    else:
        with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            path = Path(folder) / f"{NAME}.tar"
            with path.open("wb") as file:
                for _ in range(options.size_mb):
                    file.write(os.urandom(1 << 20))
            md5 = hashlib.md5(path.read_bytes()).hexdigest()
            if options.kills:
                kill_often(path, md5, options.kills, options.throttle_mb * 1e6)
            else:
                compare(path, md5, options.rounds, 0)
                compare(path, md5, max(options.rounds // 3, 1), options.throttle_mb * 1e6)


if __name__ == "__main__":
    main()
