"""Make the pictures of the documentation, from the embedded sample alone: `make pictures`."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import sa1b_hf
from sa1b_hf import viz
from sa1b_hf.places import find_place
from sa1b_hf.testing import make_shard
from sa1b_hf.viewer import Viewer, ViewerServer

COLUMNS, LINES = 104, 16


def draw_masks(folder: Path) -> None:
    """An overlay and a contact sheet."""
    rows = list(islice(sa1b_hf.load_dataset("sa1b.py", split="train", streaming=True), 12))
    viz.plot_masks(rows[2]).save(folder / "overlay.jpg", quality=88)
    viz.contact_sheet(rows, columns=4, tile=232).save(folder / "contact-sheet.jpg", quality=88)


def photograph_viewer(folder: Path) -> None:
    """The grid and one image, in headless Chromium."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    browser = os.environ.get("SA1B_HF_CHROMIUM") or next(filter(None, map(shutil.which, names)))
    with ViewerServer(Viewer(find_place(None))) as server, sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 1180, "height": 740}, color_scheme="dark")
        page.goto(server.url)
        page.wait_for_selector(".tile img[src]")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=folder / "viewer-grid.jpg", type="jpeg", quality=84)
        page.emulate_media(color_scheme="light")
        page.evaluate("location.hash = 'image_id=9&min_predicted_iou=0.92'")
        page.wait_for_selector("#stage[data-ready]")
        page.wait_for_load_state("networkidle")
        box = page.locator("#overlay").bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.17, box["y"] + box["height"] * 0.46)
        page.wait_for_selector("#tip:not([hidden])")
        page.screenshot(path=folder / "viewer-image.jpg", type="jpeg", quality=88)
        chromium.close()


class Screen:
    """As much of a terminal as progress bars need: new lines, returns, up, clear the line."""

    def __init__(self) -> None:
        self.lines: list[str] = [""]
        self.row = 0
        self.column = 0

    def feed(self, text: str) -> None:
        for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
            if piece == "\r":
                self.column = 0
            elif piece == "\n":
                self.row, self.column = self.row + 1, 0
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif piece.endswith("A"):
                self.row = max(0, self.row - 1)
            elif piece.endswith("K"):
                self.lines[self.row] = self.lines[self.row][: self.column]
            elif not piece.startswith("\x1b"):
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + piece + line[self.column + len(piece) :]
                self.column += len(piece)


def record_download(folder: Path) -> None:
    """`sa1b download` from a server on this machine, in a real terminal, as it stands past the middle."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from support.misbehaving_server import MisbehavingServer

    with tempfile.TemporaryDirectory() as temporary, MisbehavingServer() as server:
        mirror = Path(temporary) / "mirror"
        for number in range(2):
            make_shard(mirror / f"sa_{number:06d}.tar", first_id=1 + 100 * number, num_images=60, preset="demo")
        links = [f"{path.name}\t{server.add(f'/{path.name}', path)}" for path in sorted(mirror.iterdir())]
        (Path(temporary) / "links.txt").write_text("\n".join(["file_name\tcdn_link", *links]))
        arguments = "download shards --links links.txt --shards 0-1 --no-md5 --max-rate 2500K".split()
        screen, kept = Screen(), Screen()
        for text in run_in_terminal([sys.executable, "-m", "sa1b_hf", *arguments], temporary):
            screen.feed(text)
            if re.search(r"SA-1B: +6\d%", "\n".join(screen.lines)):
                kept.lines = screen.lines[:]
        session = [f"$ sa1b {' '.join(arguments)}", *[line.rstrip() for line in kept.lines if line.strip()]]
        draw_terminal(session, folder / "download.png")


def run_in_terminal(command: list[str], folder: str):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(command, stdout=slave, stderr=slave, stdin=slave, cwd=folder, env=environment)
    os.close(slave)
    decoder = codecs.getincrementaldecoder("utf-8")()
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not data:
            break
        yield decoder.decode(data)
    process.wait()
    os.close(master)


def draw_terminal(lines: list[str], path: Path) -> None:
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"
    font, pitch = ImageFont.truetype(str(file), 15), 23
    width = int(max(font.getlength(line) for line in lines)) + 48
    picture = Image.new("RGB", (width, pitch * len(lines) + 66), (24, 26, 31))
    canvas = ImageDraw.Draw(picture)
    for number, colour in enumerate(((255, 95, 86), (255, 189, 46), (39, 201, 63))):
        canvas.ellipse((18 + 20 * number, 15, 29 + 20 * number, 26), fill=colour)
    for number, line in enumerate(lines):
        colour = (130, 210, 150) if line.startswith("$") else (222, 226, 233)
        canvas.text((24, 44 + pitch * number), line, colour, font)
    picture.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    draw_masks(folder)
    record_download(folder)
    photograph_viewer(folder)
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size / 1024:8.1f} KB  {path}")


if __name__ == "__main__":
    main()
