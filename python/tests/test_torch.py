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
from dpipe._ranks import LAUNCHERS

try:
    import torch
    from torch.utils.data import DataLoader

    from dpipe.torch import FeedDataset, rank_and_world
except ImportError as e:  # also where torch is there and can't be loaded
    raise unittest.SkipTest(f"torch: {e}")


def no_launcher() -> dict[str, str]:
    names = [n for pair in LAUNCHERS for n in pair]
    return {k: v for k, v in os.environ.items() if k not in names}


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
        with mock.patch.dict(os.environ, no_launcher(), clear=True):
            self.assertEqual(rank_and_world(), (0, 1))
            with mock.patch.dict(os.environ, {"RANK": "3", "WORLD_SIZE": "4"}):
                self.assertEqual(rank_and_world(), (3, 4))
                self.assertEqual(rank_and_world(2, 5), (2, 5))
                self.assertEqual(FeedDataset(**self.o).feed.rank, 3)
            with mock.patch.object(torch.distributed, "is_initialized", lambda: True), mock.patch.object(torch.distributed, "get_rank", lambda: 1), \
                    mock.patch.object(torch.distributed, "get_world_size", lambda: 2):
                self.assertEqual(rank_and_world(), (1, 2))
                self.agree_rank(1, 2, DataLoader(FeedDataset(**self.o), batch_size=None, num_workers=1, multiprocessing_context="spawn"))

    def agree_rank(self, rank: int, world: int, batches: Any) -> None:
        for k, (inputs, _) in zip(range(4), batches):
            self.assertEqual(inputs.tolist(), self.want[k * world + rank][:, :-1].tolist())

    def test_rows(self) -> None:
        for reuse in 0, 2:
            for k, rows in zip(range(20), FeedDataset(rows=True, reuse=reuse, **self.o)):
                self.assertEqual((rows.dtype, rows.is_contiguous(), rows.tolist()), (torch.int32, True, self.want[k].tolist()))

    def test_reuse(self) -> None:
        self.agree(iter(FeedDataset(reuse=2, **self.o)), 0, 20)
        kept = [b for _, b in zip(range(6), FeedDataset(reuse=4, **self.o))]
        self.agree(kept[2:], 2, 4)  # the last four
        self.assertEqual([a[0].data_ptr() for a in kept[:2]], [a[0].data_ptr() for a in kept[4:]])
        masked = [b for _, b in zip(range(3), FeedDataset(reuse=2, masks=True, **self.o))]
        self.assertEqual([b["inputs"].tolist() for b in masked[1:]], [w[:, :-1].tolist() for w in self.want[1:3]])
        self.assertIsNot(masked[0], masked[2])

    def test_prefetch(self) -> None:
        self.agree(iter(FeedDataset(prefetch=3, **self.o)), 0, 40)
        self.agree(DataLoader(FeedDataset(prefetch=1, reuse=3, **self.o), batch_size=None), 0, 40)
        first = FeedDataset(prefetch=5, **self.o)
        self.agree(iter(first), 0, 7)
        state = first.state_dict()
        self.assertEqual(state["sample"], 21)
        second = FeedDataset(prefetch=2, **self.o)
        it = iter(second)
        self.agree(it, 0, 3)
        second.load_state_dict(state)
        self.agree(it, 7, 20)
        data = FeedDataset(prefetch=2, steps=4, **self.o)
        self.assertEqual([len(list(data)), len(list(data))], [4, 4])
        self.agree(iter(data), 8, 4)

    def test_options_that_cannot_be(self) -> None:
        for bad in {"steps": 0}, {"masks": True, "rows": True}, {"prefetch": -1}, {"reuse": 1}, {"reuse": 3, "prefetch": 2}:
            with self.assertRaises(dpipe.ConfigError):
                FeedDataset(**bad, **self.o)
        if not torch.cuda.is_available():
            with self.assertRaises(RuntimeError):
                next(iter(FeedDataset(pin_memory=True, **self.o)))

    def test_workers(self) -> None:
        for workers in 1, 2, 3:
            self.agree(DataLoader(FeedDataset(**self.o), batch_size=None, num_workers=workers), 0, 20)
        self.agree(DataLoader(FeedDataset(prefetch=2, **self.o), batch_size=None, num_workers=2, multiprocessing_context="spawn"), 0, 10)
        ranks = [iter(DataLoader(FeedDataset(rank=r, world=3, **{**self.o, "batch": 1}), batch_size=None, num_workers=2)) for r in range(3)]
        for k in range(10):
            self.assertEqual(torch.cat([next(i)[0] for i in ranks]).tolist(), self.want[k][:, :-1].tolist())

    def test_workers_go_on(self) -> None:
        for keep in False, True:
            loader = DataLoader(FeedDataset(steps=5, **self.o), batch_size=None, num_workers=2, persistent_workers=keep)
            for epoch in range(3):
                self.agree(loader, 5 * epoch, 5)
        # From a state of the main process, also in the middle of an iteration.
        first = FeedDataset(steps=5, **self.o)
        self.agree(iter(first), 0, 2)
        second = FeedDataset(steps=5, **self.o)
        second.load_state_dict(first.state_dict())
        loader = DataLoader(second, batch_size=None, num_workers=2)
        self.agree(loader, 2, 3)
        self.agree(loader, 5, 5)
        second.load_state_dict(first.state_dict())
        loader = DataLoader(second, batch_size=None, num_workers=3)
        self.assertEqual([len(list(loader)), len(list(loader))], [3, 5])
        # What nobody can know is refused.
        loader = DataLoader(FeedDataset(**self.o), batch_size=None, num_workers=1)
        self.agree(loader, 0, 3)
        with self.assertRaisesRegex(RuntimeError, "keep its iterator"):
            next(iter(loader))
        data = FeedDataset(steps=4, **self.o)
        self.agree(DataLoader(data, batch_size=None, num_workers=2), 0, 4)
        with self.assertRaisesRegex(RuntimeError, "num_workers=1 after an iteration with 2"):
            next(iter(DataLoader(data, batch_size=None, num_workers=1)))

    def test_torchdata_workers(self) -> None:
        try:
            from torchdata.stateful_dataloader import StatefulDataLoader
        except ImportError as e:
            self.skipTest(f"torchdata: {e}")
        for workers in 0, 2:
            for n in 1, 4, 7:
                for every in 1, 3:
                    how: dict[str, Any] = dict(batch_size=None, num_workers=workers, snapshot_every_n_steps=every)
                    first = StatefulDataLoader(FeedDataset(**self.o), **how)
                    self.agree(iter(first), 0, n)
                    second = StatefulDataLoader(FeedDataset(**self.o), **how)
                    second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
                    self.agree(iter(second), n, 9)
            for n in 3, 5:  # in an iteration, and between two
                one = StatefulDataLoader(FeedDataset(steps=5, **self.o), batch_size=None, num_workers=workers)
                it = iter(one)
                self.agree(it, 0, n)
                if n == 5:
                    self.assertEqual(list(it), [])
                two = StatefulDataLoader(FeedDataset(steps=5, **self.o), batch_size=None, num_workers=workers)
                two.load_state_dict(one.state_dict())
                if n == 3:
                    self.agree(two, 3, 2)
                self.agree(two, 5, 5)
                self.agree(two, 10, 5)
        state = StatefulDataLoader(FeedDataset(**self.o), batch_size=None, num_workers=2)
        self.agree(iter(state), 0, 2)
        other = StatefulDataLoader(FeedDataset(**self.o), batch_size=None, num_workers=0)
        other.load_state_dict(state.state_dict())
        with self.assertRaises(Exception):
            next(iter(other))

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
