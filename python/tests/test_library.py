from __future__ import annotations

import os
import subprocess
import sys
import unittest
from typing import Optional

from . import fixture
import dpipe
from dpipe import _lib

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(dpipe.__file__)))


def run(code: str, library: Optional[str]) -> "subprocess.CompletedProcess[str]":
    env = {k: v for k, v in os.environ.items() if k != "DPIPE_LIBRARY"}
    if library is not None:
        env["DPIPE_LIBRARY"] = library
    return subprocess.run([sys.executable, "-c", code], env={**env, "PYTHONPATH": PACKAGE + os.pathsep + env.get("PYTHONPATH", "")}, capture_output=True, text=True)


class LibraryTest(unittest.TestCase):
    def test_version(self) -> None:
        told = fixture.dpipe("--version").decode().split()[1]
        self.assertEqual(dpipe.library_version(), told)
        self.assertEqual(dpipe.__version__, told)

    def test_state_has_the_size_that_the_library_says(self) -> None:
        with dpipe.Feed(fixture.data().manifest, seq_len=16) as f:
            self.assertEqual(len(bytes.fromhex(f.state_dict()["feed"])), _lib.STATE_BYTES)
            self.assertLess(len(str(f.state_dict())), 440)

    def test_import_needs_no_library_and_use_says_what_to_do(self) -> None:
        r = run("import dpipe; print('imported'); dpipe.Feed('x')", "/nonexistent/libdpipe.so.0")
        self.assertEqual(r.stdout, "imported\n")
        self.assertIn("ImportError: can't load /nonexistent/libdpipe.so.0", r.stderr)
        self.assertIn("DPIPE_LIBRARY", r.stderr)

    def test_another_library_is_refused(self) -> None:
        r = run("import dpipe; dpipe.library_version()", "libc.so.6")
        self.assertIn("ImportError: libc.so.6 is a libdpipe without the functions for Python", r.stderr)


if __name__ == "__main__":
    unittest.main()
