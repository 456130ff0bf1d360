"""The feed for PyTorch: finished batches as int64 tensors.

    from dpipe.torch import FeedDataset
    data = FeedDataset("data/manifest.json", seq_len=2048, batch=8)
    for inputs, targets in torch.utils.data.DataLoader(data, batch_size=None): ...
"""
from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import multiprocessing.context
import os
from typing import Any, Callable, Iterator, Mapping, Optional

import torch
from torch.utils.data import IterableDataset, get_worker_info

from ._feed import Feed, PathLike
from ._lib import ConfigError
from ._ranks import rank_and_world as _launched

__all__ = ["FeedDataset", "rank_and_world"]

WORKERS_MAX = 256


def rank_and_world(rank: Optional[int] = None, world: Optional[int] = None) -> tuple[int, int]:
    """What is given; else torch.distributed's when it is initialised; else dpipe.rank_and_world's, which asks the environment."""
    if rank is None and world is None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return _launched(rank, world)


class FeedDataset(IterableDataset[Any]):
    """An IterableDataset that yields finished batches: (inputs, targets), each int64 [batch, seq_len], contiguous and the caller's own.

    Options are those of dpipe.Feed, `connect` too. rows=True gives int32 [batch, seq_len + 1] instead, a quarter of the bytes, for those who widen on
    their device. With masks=True a batch is a dict: inputs and targets, cu_seqlens int32 [batch, seq_len + 1], segments int32 [batch], positions int64
    [batch, seq_len], loss_mask bool [batch, seq_len], sample int64 [batch]; see dpipe.Batch.

    reuse=N: the memory of N batches is used by turns, so that nothing is allocated any more and a batch is overwritten when the N-th after it is
    asked for (with prefetch, so many earlier).
    pin_memory=True: page-locked memory, for copies to a GPU that don't wait. prefetch=N: up to N batches are made in a thread while earlier ones are
    used (Feed.ahead), which pays where making one takes longer than the handing over: cold or compressed shards, a server far away.

    Use batch_size=None, and num_workers=0: a batch is made in microseconds, and a worker process adds a copy. With workers the batches and
    their order are the same all the same: worker w of W makes every W-th from the w-th on.

    steps bounds one iteration (an "epoch" of a training loop), the next goes on behind it; None: no end. With workers, an iteration that is
    left early counts as whole.
    state_dict/load_state_dict are what torchdata's StatefulDataLoader calls: resuming is exact, also with another rank, world or batch. With worker
    processes only StatefulDataLoader knows where the run is, and the number of workers must stay.
    The shards are opened by the first use, so that an object can be pickled and sent.
    """

    def __init__(
        self,
        manifest: Optional[PathLike] = None,
        *,
        rank: Optional[int] = None,
        world: Optional[int] = None,
        masks: bool = False,
        rows: bool = False,
        steps: Optional[int] = None,
        prefetch: int = 0,
        reuse: int = 0,
        pin_memory: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        if steps is not None and steps < 1:
            raise ConfigError(f"feed: steps {steps} is below 1", -7)
        if masks and rows:
            raise ConfigError("feed: masks come with inputs and targets, not with rows", -7)
        if prefetch < 0 or reuse < 0:
            raise ConfigError(f"feed: prefetch {prefetch} and reuse {reuse} can't be negative", -7)
        if reuse and reuse < prefetch + 2:
            raise ConfigError(f"feed: reuse {reuse} is below prefetch + 2: a batch would be overwritten while it is used", -7)
        self._manifest, self._options = manifest, options
        self._rank, self._world = rank, world
        self._masks, self._rows, self._steps = masks, rows, steps
        self._prefetch, self._reuse, self._pin = prefetch, reuse, pin_memory
        self._step = 0  # batches given by the current iteration, by this process
        self._skip = 0  # of those of the iteration, that were given before it was divided among workers
        self._resumed = False
        self._loaded = False  # by load_state_dict in this worker process, not before there were workers
        self._worker: Optional[tuple[int, int]] = None
        self._feed: Optional[Feed] = None
        self._pid = 0
        self._pending: Optional[Mapping[str, Any]] = None
        self._begun: Any = _shared()

    # --- the feed ---

    @property
    def feed(self) -> Feed:
        """The feed beneath, opened now if it wasn't."""
        if self._feed is None or self._pid != os.getpid():
            if self._feed is not None:  # a fork's child opens its own, where its parent's was
                self._pending = self._feed.state_dict()
            rank, world = rank_and_world(self._rank, self._world)
            info = get_worker_info()
            if info is not None:
                # Worker w of W makes steps w, w + W, ...: what rank w * world + rank of W * world would. The steps that an iteration has had
                # elsewhere are not divided.
                self._worker = (info.id, info.num_workers)
                self._skip, self._step = self._step if self._resumed else 0, 0
                rank, world = info.id * world + rank, info.num_workers * world
            options = dict(self._options)
            if self._masks and options.get("connect") is not None:
                options.setdefault("meta", "cu_seqlens,segments,positions,loss_mask,sample")
            feed = Feed(self._manifest, rank=rank, world=world, **options)
            if self._pending is not None:
                feed.load_state_dict(self._pending)
            self._feed, self._pid, self._pending = feed, os.getpid(), None
        return self._feed

    def _span(self) -> int:
        """Global samples of one batch of all ranks."""
        feed = self.feed
        return feed.batch * feed.world // (self._worker[1] if self._worker else 1)

    # --- iterating ---

    def __iter__(self) -> Iterator[Any]:
        feed = self.feed
        if self._worker:
            self._place(feed)
        elif not self._resumed:
            self._step = 0
        return self._batches()

    def _place(self, feed: Feed) -> None:
        """In a worker, where the iteration begins: behind the one before, which may have been another process's."""
        w, workers = self._worker or (0, 1)
        if w >= WORKERS_MAX:
            raise ConfigError(f"feed: {workers} worker processes, more than {WORKERS_MAX}", -7)
        n, at = self._begun[2 * w], self._begun[2 * w + 1]
        if self._loaded or (self._resumed and not n):
            self._loaded = False
        else:
            if n and self._steps is None:
                raise RuntimeError("dpipe.torch.FeedDataset: a second iteration over worker processes: where the first one was left isn't known here; "
                                   "keep its iterator, give steps=, or use num_workers=0")
            if n and n != workers:
                raise RuntimeError(f"dpipe.torch.FeedDataset: num_workers={workers} after an iteration with {n}; keep the number")
            if n:
                feed.seek(at)
                self._skip = 0
            self._step = 0
        self._begun[2 * w] = workers
        if self._steps is not None:
            first = feed.sample - self._step * feed.batch * feed.world  # of the iteration's rest as it was divided
            self._begun[2 * w + 1] = first + (self._steps - self._skip) * self._span()

    def _left(self) -> bool:
        if self._steps is None:
            return True
        if not self._worker:
            return self._step < self._steps
        w, workers = self._worker
        return self._skip + w + self._step * workers < self._steps

    def _batches(self) -> Iterator[Any]:
        # The position is asked of the feed at each step, so load_state_dict may come before or after iter().
        feed, make = self.feed, self._maker()
        ahead = feed.ahead(self._prefetch, make) if self._prefetch else None
        while self._steps is None or self._left():
            self._resumed = False
            batch = make(feed) if ahead is None else next(ahead)
            self._step += 1
            yield batch
        self._resumed = False

    def _maker(self) -> Callable[[Feed], Any]:
        """What makes a batch with a feed: in new memory each time, or in that of N batches by turns."""
        B, T = self.feed.batch, self.feed.seq_len
        new = self._new_masks if self._masks else self._new_rows if self._rows else self._new_pairs
        memory: Callable[[], tuple[Any, int]] = lambda: new(B, T)
        if self._reuse:
            memory = itertools.cycle([new(B, T) for _ in range(self._reuse)]).__next__
        positions = torch.empty((B, T), dtype=torch.int32)

        def rows(feed: Feed) -> Any:
            batch, at = memory()
            feed.fill_rows(at)
            return batch

        def pairs(feed: Feed) -> Any:
            batch, at = memory()
            feed.fill_pairs(at)
            return batch

        def masks(feed: Feed) -> Any:
            batch, at = memory()
            feed.fill_pair(at, at + B * T * 8, batch["cu_seqlens"].data_ptr(), batch["segments"].data_ptr(), positions.data_ptr(),
                           batch["loss_mask"].data_ptr(), None, batch["sample"].data_ptr())
            batch["positions"].copy_(positions)
            return dict(batch)

        return masks if self._masks else rows if self._rows else pairs

    def _new_rows(self, B: int, T: int) -> tuple[Any, int]:
        rows = torch.empty((B, T + 1), dtype=torch.int32, pin_memory=self._pin)
        return rows, rows.data_ptr()

    def _new_pairs(self, B: int, T: int) -> tuple[Any, int]:
        pair = torch.empty((2, B, T), dtype=torch.int64, pin_memory=self._pin)
        return pair.unbind(0), pair.data_ptr()

    def _new_masks(self, B: int, T: int) -> tuple[Any, int]:
        def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.empty(shape, dtype=dtype, pin_memory=self._pin)

        (inputs, targets), at = self._new_pairs(B, T)
        batch = {"inputs": inputs, "targets": targets, "cu_seqlens": empty(B, T + 1, dtype=torch.int32), "segments": empty(B, dtype=torch.int32),
                 "positions": empty(B, T, dtype=torch.int64), "loss_mask": empty(B, T, dtype=torch.bool), "sample": empty(B, dtype=torch.int64)}
        return batch, at

    # --- state ---

    def state_dict(self) -> dict[str, Any]:
        """Feed.state_dict() and the batches given by the current iteration; in a worker process, which worker's they are."""
        state = {**self.feed.state_dict(), "step": self._step}
        return {**state, "worker": list(self._worker), "skip": self._skip} if self._worker else state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on behind the last batch before state_dict() was asked; where that ended an iteration, the next begins."""
        feed = self.feed
        of = state_dict.get("worker")
        if of is not None and list(of) != list(self._worker or ()):
            here = f"worker {self._worker[0]} of {self._worker[1]}" if self._worker else "no worker"
            raise ConfigError(f"feed: this is the state of worker {of[0]} of {of[1]} of a DataLoader, and this process is {here}; load it through "
                              "StatefulDataLoader, with as many workers", -7)
        feed.load_state_dict(state_dict)
        step = int(state_dict.get("step", 0))
        whole = self._steps is not None and step >= self._steps
        if of is not None:  # a worker goes on
            self._skip, self._step, self._resumed, self._loaded = int(state_dict.get("skip", 0)), step, True, True
        elif self._worker:  # the workers divide what is left
            self._skip, self._step, self._resumed, self._loaded = 0 if whole else step, 0, True, True
        else:
            self._step, self._resumed = (0, False) if whole else (step, True)
            self._begun[:] = [0] * len(self._begun)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self._feed is not None:
            state["_pending"] = self._feed.state_dict()
        state["_feed"] = None
        if multiprocessing.context.get_spawning_popen() is None:  # a copy: it has workers of its own
            state["_begun"] = None
        else:  # a worker can't ask torch.distributed
            state["_rank"], state["_world"] = rank_and_world(self._rank, self._world)
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        if self._begun is None:
            self._begun = _shared()


def _shared() -> Any:
    """For each worker how many there were when it last began an iteration, and where the next one begins; seen by all processes."""
    return multiprocessing.RawArray(ctypes.c_int64, 2 * WORKERS_MAX)
