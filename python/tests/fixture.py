"""A small workspace, made once by the program beside the library under test (DPIPE, else build/release/dpipe)."""
from __future__ import annotations

import functools
import glob
import json
import os
import random
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("DPIPE", os.path.join(ROOT, "build/release/dpipe"))
_built = os.path.join(os.path.dirname(PROGRAM), "libdpipe.so")
if "DPIPE_LIBRARY" not in os.environ and os.path.exists(_built):
    os.environ["DPIPE_LIBRARY"] = _built
if "/" in os.environ.get("DPIPE_LIBRARY", ""):
    os.environ["DPIPE_LIBRARY"] = os.path.abspath(os.environ["DPIPE_LIBRARY"])

WORDS = ("the of and to in that with have time people water light house river stone green walk speak large small morning garden winter "
         "letter window bread music paper silver journey market forest bridge engine number question answer").split()
RECIPE = """clean:
  c4: {enabled: false}
train-bpe: {vocab_size: 600}
shards: {bytes_per_shard: 64K}
feed: {val_fraction: 0.1}
"""


def dpipe(*args: object) -> bytes:
    r = subprocess.run([PROGRAM, *map(str, args)], capture_output=True)
    if r.returncode != 0:
        raise RuntimeError(f"dpipe {' '.join(map(str, args))}: exit {r.returncode}: {r.stderr.decode()[-800:]}")
    return r.stdout


def _write(path: str, seed: int, documents: int, words: int) -> None:
    r = random.Random(seed)
    with open(path, "w") as f:
        for _ in range(documents):
            text = " ".join(r.choice(WORDS) + ("." if i % 12 == 11 else "") for i in range(r.randint(words // 3, words)))
            f.write(json.dumps({"text": text}) + "\n")


class Data:
    def __init__(self) -> None:
        self.dir = tempfile.mkdtemp(prefix="dpipe-python-")
        self.a, self.b, self.c = (os.path.join(self.dir, n) for n in "abc")
        _write(os.path.join(self.dir, "one.jsonl"), 1, 80, 400)
        _write(os.path.join(self.dir, "two.jsonl"), 2, 60, 300)
        _write(os.path.join(self.dir, "three.jsonl"), 3, 50, 200)
        _write(os.path.join(self.dir, "four.jsonl"), 4, 40, 600)
        self._make(self.a, RECIPE, "one.jsonl", "two.jsonl")
        self.tokenizer = glob.glob(os.path.join(self.a, "store/tokenizer-*.json"))[0]
        self._make(self.b, RECIPE + f"tokenizer: {{file: {self.tokenizer}}}\n", "three.jsonl")
        self._make(self.c, RECIPE + f"tokenizer: {{file: {self.tokenizer}}}\n", "four.jsonl")
        self.manifest, self.other, self.third = (glob.glob(os.path.join(w, "store/manifest-*.json"))[0] for w in (self.a, self.b, self.c))

    def _make(self, workspace: str, recipe: str, *files: str) -> None:
        dpipe("init", "-q", workspace)
        with open(os.path.join(workspace, "recipe.yaml"), "w") as f:
            f.write(recipe)
        dpipe("ingest", "-q", "-w", workspace, "--register-only", *(os.path.join(self.dir, f) for f in files))
        dpipe("run", "-q", "-w", workspace, "--until", "shard")

    def dump(self, *args: object) -> bytes:
        """What `dpipe feed --dump` writes."""
        path = os.path.join(self.dir, "dump")
        dpipe("feed", *args, "--dump", path)
        with open(path, "rb") as f:
            return f.read()


@functools.lru_cache(maxsize=None)
def data() -> Data:
    d = Data()
    unittest.addModuleCleanup(shutil.rmtree, d.dir, True)
    unittest.addModuleCleanup(data.cache_clear)
    return d
