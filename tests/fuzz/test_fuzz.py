"""Mutated files never crash, hang, take all memory, or raise what is not documented.

ALLCONVNET_FUZZ_SECONDS is the time for each target; 5 if it is not set, 3600 before a release.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = os.environ.get("ALLCONVNET_FUZZ_SECONDS", "5")


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' limit of memory")
@pytest.mark.parametrize("target", ["pictures", "weights", "batches", "archives", "arrays"])
def test_fuzz(target, tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("targets.py")), target, SECONDS, str(tmp_path)]
    # One arena: each reserves 64 MB, which would count as used.
    environment = os.environ | {"MALLOC_ARENA_MAX": "1", "OPENCV_LOG_LEVEL": "SILENT"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    report = f"exit status {ended.returncode}; the last file is in {tmp_path}.\n{ended.stderr[-3000:]}"
    assert ended.returncode == 0, report
    assert f"{target}: " in ended.stdout
