"""A short run of the C fuzzer under sanitizers; `fuzz_rle.c` says how to run a long one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FLAGS = ["-std=c11", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
STRINGS = int(os.environ.get("SA1B_HF_FUZZ_STRINGS", "20000"))


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    """The fuzzer, compiled with AddressSanitizer and UBSan; skipped where there is no such compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("no C compiler")
    binary = tmp_path_factory.mktemp("fuzz") / "fuzz_rle"
    probe = subprocess.run(
        [compiler, *FLAGS, "-x", "c", "-", "-o", binary],
        input="int main(void) {return 0;}",
        text=True,
        check=False,
        capture_output=True,
    )
    if probe.returncode or subprocess.run([binary], check=False, capture_output=True).returncode:
        pytest.skip("no sanitizers for this compiler")
    command = [compiler, *FLAGS, "-Wall", "-Wextra", "-Werror", HERE / "fuzz_rle.c", "-o", binary]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return binary


@pytest.mark.parametrize("seed", ["1", "2"])
def test_random_strings_run_clean(fuzzer, seed):
    """No string makes a kernel read or write where it must not, or disagree with a plain reading of the format."""
    done = subprocess.run([fuzzer, str(STRINGS), seed], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(rf"{STRINGS} strings, \d+ well-formed: all right\n", done.stdout)
