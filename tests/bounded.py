"""Calls in a process that may take 200 MB more than the loaded library."""

import json
import subprocess
import sys

_CODE = """
import json, re, resource, sys, time
import h5py, numpy, allconvnet
from allconvnet import _weight_files, data
allconvnet.load_image(b"P5 1 1 255 0")  # Loads OpenCV.
status = open("/proc/self/status").read()
used = int(re.search(r"VmSize:\\s+(\\d+) kB", status)[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20),) * 2)
for arguments in json.loads(sys.argv[2]):
    started, error = time.process_time(), None
    try:
        eval(sys.argv[1])(*arguments)
    except Exception as caught:
        error = caught
    print(json.dumps([type(error).__name__, str(error), time.process_time() - started]))
"""


def errors(function, *arguments):
    """For each tuple of arguments the function's error, `"ValueError: ..."`, within 5 seconds of computing."""
    command = [sys.executable, "-c", _CODE, function, json.dumps(arguments, default=str)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr[-3000:]
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert not [error for error in found if error[2] > 5]
    return [f"{name}: {message}" for name, message, _ in found]
