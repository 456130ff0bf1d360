from __future__ import annotations

import os
import pickle
import subprocess
import sys
import unittest
from typing import Any
from unittest import mock

import numpy as np

from . import fixture
import dpipe

try:
    import torch
    from torch.utils.data import DataLoader

    from dpipe.torch import FeedDataset, rank_and_world
except ImportError as e:  # also where torch is there and can't be loaded
    raise unittest.SkipTest(f"torch: {e}")


class TorchTest(unittest.TestCase):
    def setUp(self) -> None:
        d = fixture.data()
        self.o: dict[str, Any] = dict(domains={"web": d.manifest, "books": d.other}, mixture="web=0.6,books=0.4", seq_len=24, batch=3, pack="bestfit")
        with dpipe.Feed(**self.o) as f:
            self.want = [f.next() for _ in range(40)]

    def agree(self, batches: Any, first: int, n: int) -> None:
        k = -1
        for k, (inputs, targets) in zip(range(n), batches):
            want = self.want[first + k]
            self.assertEqual((inputs.dtype, targets.dtype), (torch.int64, torch.int64))
            self.assertTrue(inputs.is_contiguous() and targets.is_contiguous())
            self.assertEqual((inputs.tolist(), targets.tolist()), (want[:, :-1].tolist(), want[:, 1:].tolist()))
        self.assertEqual(k, n - 1)

    def test_batches(self) -> None:
        self.agree(iter(FeedDataset(**self.o)), 0, 40)
        self.agree(DataLoader(FeedDataset(**self.o), batch_size=None), 0, 40)

    def test_batches_are_the_callers_own(self) -> None:
        it = iter(FeedDataset(**self.o))
        kept = [next(it) for _ in range(5)]
        kept[0][0].zero_()
        self.agree(kept[1:], 1, 4)

    def test_masks(self) -> None:
        with dpipe.Feed(**self.o) as f:
            for batch in (next(it) for it in [iter(FeedDataset(masks=True, **self.o))] for _ in range(10)):
                m = f.next_batch()
                want = dict(inputs=m.inputs, targets=m.targets, cu_seqlens=m.cu_seqlens, segments=m.segments, positions=m.positions, loss_mask=m.loss_mask,
                            sample=m.sample)
                self.assertEqual({k: v.tolist() for k, v in batch.items()}, {k: np.asarray(v).tolist() for k, v in want.items()})
                self.assertEqual((batch["positions"].dtype, batch["loss_mask"].dtype), (torch.int64, torch.bool))

    def test_resume(self) -> None:
        for before in True, False:  # load_state_dict before or after iter()
            first = FeedDataset(**self.o)
            self.agree(iter(first), 0, 7)
            state = pickle.loads(pickle.dumps(first.state_dict()))
            second = FeedDataset(**self.o)
            it = iter(second)
            if before:
                second = FeedDataset(**self.o)
                second.load_state_dict(state)
                it = iter(second)
            else:
                second.load_state_dict(state)
            self.agree(it, 7, 20)
        again = pickle.loads(pickle.dumps(first))
        self.agree(iter(again), 7, 20)

    def test_steps(self) -> None:
        data = FeedDataset(steps=4, **self.o)
        self.assertEqual([len(list(data)) for _ in range(3)], [4, 4, 4])
        self.agree(iter(data), 12, 2)
        state = data.state_dict()
        second = FeedDataset(steps=4, **self.o)
        second.load_state_dict(state)
        self.agree(iter(second), 14, 2)
        rest = FeedDataset(steps=4, **self.o)
        rest.load_state_dict(state)
        self.assertEqual([len(list(rest)) for _ in range(3)], [2, 4, 4])
        late = FeedDataset(steps=4, **self.o)
        it = iter(late)
        late.load_state_dict(state)
        self.assertEqual([len(list(it)), len(list(late))], [2, 4])
        # What was saved between two iterations begins the next.
        whole = FeedDataset(steps=4, **self.o)
        self.assertEqual(len(list(whole)), 4)
        after = FeedDataset(steps=4, **self.o)
        after.load_state_dict(whole.state_dict())
        self.agree(iter(after), 4, 4)

    def test_another_world(self) -> None:
        first = FeedDataset(**self.o)
        self.agree(iter(first), 0, 2)
        ranks = [FeedDataset(rank=r, world=3, **{**self.o, "batch": 1}) for r in range(3)]
        for r in ranks:
            r.load_state_dict(first.state_dict())
        its = [iter(r) for r in ranks]
        for k in range(2, 20):
            self.assertEqual(torch.cat([next(i)[0] for i in its]).tolist(), self.want[k][:, :-1].tolist())

    def test_rank_and_world(self) -> None:
        clean = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
        with mock.patch.dict(os.environ, clean, clear=True):
            self.assertEqual(rank_and_world(), (0, 1))
            self.assertEqual(rank_and_world(2, 5), (2, 5))
            for bad in {"RANK": "1"}, {"WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}:
                with mock.patch.dict(os.environ, bad), self.assertRaisesRegex(dpipe.ConfigError, "WORLD_SIZE"):
                    rank_and_world()
            with mock.patch.dict(os.environ, {"RANK": "3", "WORLD_SIZE": "4"}):
                self.assertEqual(rank_and_world(), (3, 4))
                self.assertEqual(FeedDataset(**self.o).feed.rank, 3)
            with self.assertRaises(dpipe.ConfigError):
                rank_and_world(1)
            with mock.patch.object(torch.distributed, "is_initialized", lambda: True), mock.patch.object(torch.distributed, "get_rank", lambda: 1), \
                    mock.patch.object(torch.distributed, "get_world_size", lambda: 2):
                self.assertEqual(rank_and_world(), (1, 2))

    def test_workers_are_refused(self) -> None:
        with self.assertRaisesRegex(RuntimeError, "num_workers=0"):
            next(iter(DataLoader(FeedDataset(**self.o), batch_size=None, num_workers=1)))

    def test_torchdata(self) -> None:
        try:
            from torchdata.stateful_dataloader import StatefulDataLoader
        except ImportError as e:
            self.skipTest(f"torchdata: {e}")
        for n in 1, 5, 11:
            first = StatefulDataLoader(FeedDataset(**self.o), batch_size=None)
            self.agree(iter(first), 0, n)
            second = StatefulDataLoader(FeedDataset(**self.o), batch_size=None)
            second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
            self.agree(iter(second), n, 20)
        first = StatefulDataLoader(FeedDataset(steps=4, **self.o), batch_size=None)
        self.agree(iter(first), 0, 3)
        second = StatefulDataLoader(FeedDataset(steps=4, **self.o), batch_size=None)
        second.load_state_dict(first.state_dict())
        self.assertEqual([len(list(second)), len(list(second))], [1, 4])
        whole = StatefulDataLoader(FeedDataset(steps=4, **self.o), batch_size=None)
        self.assertEqual(len(list(whole)), 4)
        after = StatefulDataLoader(FeedDataset(steps=4, **self.o), batch_size=None)
        after.load_state_dict(whole.state_dict())
        self.agree(iter(after), 4, 4)

    def test_dpipe_alone_does_not_import_torch(self) -> None:
        code = "import sys, dpipe; assert 'torch' not in sys.modules"
        path = os.path.dirname(os.path.dirname(os.path.abspath(dpipe.__file__)))
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": path + os.pathsep + os.environ.get("PYTHONPATH", "")})


if __name__ == "__main__":
    unittest.main()
