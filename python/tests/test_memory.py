"""What a feed takes beyond the imports: under 20 MiB, pages of mapped files aside."""
from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import unittest

from . import fixture
import dpipe

COUNT = """
import sys
def kib():
    with open("/proc/self/smaps_rollup") as f:
        rows = {w[0]: int(w[1]) for w in (l.split() for l in f) if len(w) == 3}
    return rows["Pss_Anon:"] + rows["Pss_Shmem:"]
import numpy, dpipe
way, manifest = sys.argv[1:]
options = dict(manifest=manifest, seq_len=2048, batch=8, val_fraction=0.0)
if way == "torch":
    import torch.utils.data, dpipe.torch
    torch.zeros((2, 8, 2048), dtype=torch.int64)
before = kib()
if way == "numpy":
    feed = dpipe.Feed(**options)
    for _ in range(300): feed.next(), feed.next_pair()
elif way == "masks":
    feed = dpipe.Feed(pack="bestfit", **options)
    for _ in range(300): feed.next_batch()
elif way == "ahead":
    feed = dpipe.Feed(**options)
    for _, _ in zip(range(300), feed.ahead(4)): pass
else:
    it = iter(torch.utils.data.DataLoader(dpipe.torch.FeedDataset(**options), batch_size=None))
    for _ in range(300): next(it)
print((kib() - before) / 1024)
"""


class Memory(unittest.TestCase):
    def taken(self, way: str) -> float:
        env = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(dpipe.__file__)))}
        r = subprocess.run([sys.executable, "-c", COUNT, way, fixture.data().manifest], capture_output=True, text=True, env=env)
        self.assertEqual(r.returncode, 0, r.stderr)
        return float(r.stdout)

    def test_numpy(self) -> None:
        for way in "numpy", "masks", "ahead":
            self.assertLess(self.taken(way), 20, way)

    @unittest.skipUnless(importlib.util.find_spec("torch"), "torch isn't installed")
    def test_torch(self) -> None:
        self.assertLess(self.taken("torch"), 20)


if __name__ == "__main__":
    unittest.main()
