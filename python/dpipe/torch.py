"""The feed for PyTorch: finished batches as int64 tensors.

    from dpipe.torch import FeedDataset
    data = FeedDataset("data/manifest.json", seq_len=2048, batch=8)
    for inputs, targets in torch.utils.data.DataLoader(data, batch_size=None): ...
"""
from __future__ import annotations

import os
from typing import Any, Iterator, Mapping, Optional, Union

import torch
from torch.utils.data import IterableDataset, get_worker_info

from ._feed import Feed, PathLike
from ._lib import ConfigError

__all__ = ["FeedDataset", "rank_and_world"]


def rank_and_world(rank: Optional[int] = None, world: Optional[int] = None) -> tuple[int, int]:
    """What is given; else torch.distributed's when it is initialised; else RANK and WORLD_SIZE, as torchrun sets them; else 0 of 1."""
    if (rank is None) != (world is None):
        raise ConfigError("feed: give both rank and world, or neither", -7)
    if rank is not None and world is not None:
        return rank, world
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    named = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if named[0] is None and named[1] is None:
        return 0, 1
    try:
        return int(named[0] or ""), int(named[1] or "")
    except ValueError:
        raise ConfigError(f"feed: RANK={named[0]} and WORLD_SIZE={named[1]} in the environment: both must be numbers", -7) from None


class FeedDataset(IterableDataset[Any]):
    """An IterableDataset that yields finished batches: (inputs, targets), each int64 [batch, seq_len], contiguous and the caller's own.

    Options are those of dpipe.Feed. With masks=True a batch is a dict: inputs and targets, cu_seqlens int32 [batch, seq_len + 1], segments
    int32 [batch], positions int64 [batch, seq_len], loss_mask bool [batch, seq_len], sample int64 [batch]; see dpipe.Batch.

    Use batch_size=None and num_workers=0: a batch is made in microseconds, and a worker process would only add a copy; other numbers
    are refused. steps bounds one iteration (an "epoch" of a training loop), the next goes on behind it; None: no end.
    state_dict/load_state_dict are what torchdata's StatefulDataLoader calls: resuming is exact, also with another rank, world or batch.
    The shards are opened by the first use, so that an object can be pickled and sent.
    """

    def __init__(
        self,
        manifest: Optional[PathLike] = None,
        *,
        rank: Optional[int] = None,
        world: Optional[int] = None,
        masks: bool = False,
        steps: Optional[int] = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if steps is not None and steps < 1:
            raise ConfigError(f"feed: steps {steps} is below 1", -7)
        self._manifest, self._options = manifest, options
        self._rank, self._world = rank, world
        self._masks, self._steps = masks, steps
        self._step = 0  # batches given by the current iteration
        self._resumed = False
        self._feed: Optional[Feed] = None
        self._pending: Optional[Mapping[str, Any]] = None

    @property
    def feed(self) -> Feed:
        """The feed beneath, opened now if it wasn't."""
        if self._feed is None:
            rank, world = rank_and_world(self._rank, self._world)
            feed = Feed(self._manifest, rank=rank, world=world, **self._options)
            if self._pending is not None:
                feed.load_state_dict(self._pending)
            self._feed, self._pending = feed, None
        return self._feed

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        if worker is not None:
            raise RuntimeError(
                f"dpipe.torch.FeedDataset in a DataLoader with num_workers={worker.num_workers}: use num_workers=0. A batch takes microseconds "
                "to make; a worker process would copy it through a pipe, and each would yield the same batches"
            )
        if not self._resumed:
            self._step = 0
        return self._batches()

    def _batches(self) -> Iterator[Any]:
        # The position is asked of the feed at each step, so load_state_dict may come before or after iter().
        while self._steps is None or self._step < self._steps:
            self._resumed = False
            batch = self._next()
            self._step += 1
            yield batch
        self._resumed = False

    def _next(self) -> Union[tuple[torch.Tensor, torch.Tensor], dict[str, torch.Tensor]]:
        feed = self.feed
        B, T = feed.batch, feed.seq_len
        pair = torch.empty((2, B, T), dtype=torch.int64)
        at = pair.data_ptr()
        if not self._masks:
            feed.fill_pair(at, at + B * T * 8)
            inputs, targets = pair.unbind(0)
            return inputs, targets
        cu, segments = torch.empty((B, T + 1), dtype=torch.int32), torch.empty(B, dtype=torch.int32)
        positions, loss = torch.empty((B, T), dtype=torch.int32), torch.empty((B, T), dtype=torch.bool)
        sample = torch.empty(B, dtype=torch.int64)
        feed.fill_pair(at, at + B * T * 8, cu.data_ptr(), segments.data_ptr(), positions.data_ptr(), loss.data_ptr(), None, sample.data_ptr())
        return {"inputs": pair[0], "targets": pair[1], "cu_seqlens": cu, "segments": segments, "positions": positions.long(), "loss_mask": loss,
                "sample": sample}

    def state_dict(self) -> dict[str, Any]:
        """Feed.state_dict() and the batches given by the current iteration."""
        return {**self.feed.state_dict(), "step": self._step}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on behind the last batch before state_dict() was asked; where that ended an iteration, the next begins."""
        self.feed.load_state_dict(state_dict)
        step = int(state_dict.get("step", 0))
        whole = self._steps is not None and step >= self._steps
        self._step, self._resumed = (0, False) if whole else (step, True)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if self._feed is not None:
            state["_pending"] = self._feed.state_dict()
        state["_feed"] = None
        return state
