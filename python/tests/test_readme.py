"""Every ```python block of README.md runs by itself, over data of the names it uses."""
from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import unittest

from . import fixture
import dpipe

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MISSING = re.compile(r"ModuleNotFoundError: No module named '(torch|torchdata|jax)")


class Readme(unittest.TestCase):
    def test_examples(self) -> None:
        d = fixture.data()
        with open(os.path.join(HERE, "README.md")) as f:
            blocks = re.findall(r"```python\n(.*?)```", f.read(), re.S)
        self.assertGreater(len(blocks), 5)
        skipped = []
        with tempfile.TemporaryDirectory() as t:
            for name, workspace, manifest in ("data", d.a, d.manifest), ("code", d.b, d.other):
                os.symlink(os.path.join(workspace, "store"), os.path.join(t, name))
                link = os.path.join(workspace, "store", "manifest.json")
                if not os.path.exists(link):
                    os.symlink(manifest, link)
            os.symlink(d.tokenizer, os.path.join(t, "tokenizer.json"))
            os.symlink(d.a, os.path.join(t, "work"))
            server = subprocess.Popen([fixture.PROGRAM, "feed", "--manifest", d.manifest, "--serve", os.path.join(t, "feed.sock")], stderr=subprocess.DEVNULL)
            try:
                for k, block in enumerate(blocks):
                    r = subprocess.run([sys.executable, "-W", "ignore", "-c", "import dpipe\n" + block], cwd=t, capture_output=True, text=True, timeout=120,
                                       env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(dpipe.__file__)))})
                    missing = MISSING.search(r.stderr)
                    if missing:
                        skipped.append(missing[1])
                        continue
                    self.assertEqual(r.returncode, 0, f"block {k + 1}:\n{block}\n{r.stderr}")
            finally:
                server.terminate()
                server.wait()
        if skipped:
            self.skipTest(f"{len(skipped)} of {len(blocks)} examples need {', '.join(sorted(set(skipped)))}")


if __name__ == "__main__":
    unittest.main()
