from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Generator, Iterator, Mapping, NoReturn, Optional, TypeVar, Union, overload

import numpy as np

from . import _lib
from ._ahead import Ahead

if TYPE_CHECKING:  # 16 ms otherwise
    from numpy.typing import NDArray

PathLike = Union[str, "os.PathLike[str]"]
T = TypeVar("T")


@dataclass(frozen=True)
class Domain:
    """A domain of an open feed: `rows` an epoch, ids and documents of the split, places that bestfit leaves empty, documents it cut over
    several rows, `draws` before the cursor, shards, those that are missing, and frames known to be bad."""

    name: str
    rows: int
    tokens: int
    documents: int
    padding: int
    cut: int
    draws: int
    shards: int
    shards_absent: int
    frames_bad: int


@dataclass(frozen=True)
class Origin:
    """Where one id of a row came from: the `document`-th of the `shard`, its `document_token`-th id."""

    shard: str
    domain: str
    shard_number: int
    document: int
    document_token: int
    shard_token: int
    source: int
    id: str
    content: str


@dataclass(frozen=True)
class Batch:
    """Rows with what masks are made of; B rows of T inputs.

    ids        int32 [B, T + 1]: inputs are ids[:, :-1], targets ids[:, 1:]
    cu_seqlens int32 [B, T + 1]: 0, then the end of each segment; from place segments[b] on it is T
    segments   int32 [B]: documents' pieces in the row, padding being the last
    positions  int32 [B, T]: of each input in its segment
    loss_mask  bool [B, T]: False where the target teaches nothing
    domain     uint32 [B]: place in Feed.domains
    sample     uint64 [B]: global sample numbers
    """

    ids: NDArray[np.int32]
    cu_seqlens: NDArray[np.int32]
    segments: NDArray[np.int32]
    positions: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    domain: NDArray[np.uint32]
    sample: NDArray[np.uint64]

    @property
    def inputs(self) -> NDArray[np.int32]:
        """A view: ids[:, :-1]."""
        return self.ids[:, :-1]

    @property
    def targets(self) -> NDArray[np.int32]:
        """A view: ids[:, 1:]."""
        return self.ids[:, 1:]


def option_text(options: Mapping[str, Any]) -> bytes:
    """Options as the library reads them: "name=value" lines; those that are None are left out."""
    lines = []
    for name, value in options.items():
        if value is None:
            continue
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, float):
            text = repr(value)
        elif isinstance(value, Mapping):  # domains and mixtures
            text = ",".join(f"{k}={os.fspath(v) if hasattr(v, '__fspath__') else v}" for k, v in value.items())
        else:
            text = str(value)
        if "\n" in text or "\0" in text:
            raise _lib.ConfigError(f"feed: {name} has a line break or a NUL in it", -7)
        lines.append(f"{name}={text}")
    return "\n".join(lines).encode()


_ROW = ("rows", "tokens", "documents", "padding", "cut", "draws", "shards", "shards_absent", "frames_bad")


class Feed:
    """Rows of T + 1 token ids: deterministic, resumable, the same for any number of ranks.

    What comes is a function of shards, options and the global sample number alone. A step takes batch * world consecutive samples; rank
    r gets the batch of them that begins at r * batch. An iteration has no end: epochs follow each other.

    manifest: a manifest file; or workspace: a folder of `dpipe init`, whose recipe's feed section lies under the options; or neither,
    and domains={"web": "A/manifest.json", "code": "B/manifest.json"}. The other options are those of `dpipe feed`; None is its default:
    seq_len 1024, batch 8, seed 0, split train|val|test, val_fraction 0.01, test_fraction 0, shuffle True, pack concat|bestfit,
    loss_mask boundaries|padding|nothing, on_bad stop|skip, check False, mixture {"web": 0.7, "code": 0.3} or the text
    "web=0.7,code=0.3; 100000:web=0.2,code=0.8". start is the first global sample.

    connect: a server's address instead, the socket of `dpipe feed --serve` or of the daemon; options are then those that are to differ from the
    server's, and there are no domains, single rows and origins. reconnect is how many seconds to look for a server that is gone (the feed
    goes on at the exact sample), slots how many batches may lie finished, meta="all" (or "cu_seqlens,positions") asks for what masks are made of.
    Over TCP ("host:port"): compress is zstd's level; token or token_file, tls, tls_ca, tls_cert, tls_key, tls_host are as in `dpipe feed --connect`.

    Shards are mapped, not read; a feed of its own costs some hundred KiB. One thread at a time. A fork's child should open its own.
    """

    def __init__(
        self,
        manifest: Optional[PathLike] = None,
        *,
        workspace: Optional[PathLike] = None,
        connect: Optional[PathLike] = None,
        seq_len: Optional[int] = None,
        batch: Optional[int] = None,
        seed: Optional[int] = None,
        rank: int = 0,
        world: int = 1,
        split: Optional[str] = None,
        val_fraction: Optional[float] = None,
        test_fraction: Optional[float] = None,
        shuffle: Optional[bool] = None,
        pack: Optional[str] = None,
        loss_mask: Optional[str] = None,
        domains: Union[Mapping[str, PathLike], str, None] = None,
        mixture: Union[Mapping[str, Union[float, str]], str, None] = None,
        on_bad: Optional[str] = None,
        check: Optional[bool] = None,
        start: int = 0,
        reconnect: float = 60.0,
        slots: int = 0,
        meta: Optional[str] = None,
        compress: int = 0,
        token: Optional[str] = None,
        token_file: Optional[PathLike] = None,
        tls: bool = False,
        tls_ca: Optional[PathLike] = None,
        tls_cert: Optional[PathLike] = None,
        tls_key: Optional[PathLike] = None,
        tls_host: Optional[str] = None,
    ) -> None:
        self._h = 0
        self._ahead: Optional[Ahead[Any]] = None
        self._ahead_from = 0
        self._message = _lib.message()
        self._m = ctypes.addressof(self._message)
        self._lib = lib = _lib.library(whole=workspace is not None or _asks_workspaces(domains))
        self._connected = connect is not None
        handle = ctypes.c_void_p()
        options = option_text(
            dict(seq_len=seq_len, batch=batch, seed=seed, rank=rank, world=world, split=split, val_fraction=val_fraction,
                 test_fraction=test_fraction, shuffle=shuffle, pack=pack, loss_mask=loss_mask, domains=domains, mixture=mixture, on_bad=on_bad,
                 check=check)
        )
        if connect is not None:
            if manifest is not None or workspace is not None or domains is not None:
                raise _lib.ConfigError("feed: a server's address and a manifest, workspace or domains are given: give one", -7)
            files = {k: None if v is None else os.fspath(v) for k, v in dict(token_file=token_file, tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key).items()}
            how = option_text(dict(reconnect=f"{reconnect}s", slots=slots, meta=meta, compress=compress or None, token=token, tls=tls or None,
                                   tls_host=tls_host, **files))
            self._check(lib.dp_feed_abi_connect(ctypes.byref(handle), os.fsencode(connect), options + b"\n" + how, _natural(start), None, 0, self._m,
                                                _lib.MESSAGE_BYTES))
        else:
            self._check(lib.dp_feed_abi_open(ctypes.byref(handle), _encoded(manifest), _encoded(workspace), options, self._m, _lib.MESSAGE_BYTES))
        self._h = handle.value or 0
        n = self._numbers()
        self.seq_len, self.batch, self.rank, self.world = n[:4]
        self.vocab_size, self.eot, self.pad = n[7], n[8] if n[8] >= 0 else None, n[9]
        self._shape = (self.batch, self.seq_len + 1)
        self._rows: Callable[[int, int], int] = lib.dp_feed_abi_rows
        self._pairs: Callable[[int, int], int] = lib.dp_feed_abi_pairs
        if start and connect is None:
            self.seek(start)

    seq_len: int
    batch: int
    rank: int
    world: int
    vocab_size: int
    eot: Optional[int]
    pad: int

    def _check(self, code: int) -> None:
        if code < 0:
            _lib.fail(code, self._message.value)

    def _failed(self, code: int) -> NoReturn:
        """What dp_feed_abi_rows and dp_feed_abi_pairs could not do."""
        _lib.fail(code, self._lib.dp_feed_abi_message(self._h))

    def _open(self) -> int:
        """The handle; nothing else uses it meanwhile."""
        if not self._h:
            raise ValueError("the feed is closed")
        if self._ahead is not None:
            self._rewind()
        return self._h

    def _numbers(self) -> list[int]:
        a = (ctypes.c_int64 * 12)()
        if not self._h:
            raise ValueError("the feed is closed")
        self._lib.dp_feed_abi_numbers(self._h, a, 12)
        return list(a)

    def _wait(self, call: Callable[[], int]) -> int:
        """A call that may have to wait for a server, so that Ctrl-C ends it: where no batch lies finished, from another thread."""
        ready = self._lib.dp_feed_abi_ready
        for _ in range(50):
            if ready(self._h) > 0:
                return call()
        if threading.current_thread() is not threading.main_thread():
            return call()
        done = threading.Event()
        code: list[int] = []

        def run() -> None:
            try:
                code.append(call())
            finally:
                done.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            done.wait()
        except BaseException:
            self._lib.dp_feed_abi_stop(self._h, 1)
            thread.join()
            self._lib.dp_feed_abi_stop(self._h, 0)
            raise
        return code[0]

    def _fill(self, call: Callable[[int, int], int], at: int) -> None:
        code = self._wait(lambda: call(self._h, at)) if self._connected else call(self._h, at)
        if code < 0:
            self._failed(code)

    def _fill_all(self, call: Callable[..., int], *at: Optional[int]) -> None:
        h = self._open()
        code = self._wait(lambda: call(h, *at, self._m, _lib.MESSAGE_BYTES)) if self._connected else call(h, *at, self._m, _lib.MESSAGE_BYTES)
        self._check(code)

    @property
    def samples(self) -> int:
        """Global samples of one epoch, or of the mixture's epochs."""
        return self._numbers()[4]

    @property
    def tokens(self) -> int:
        """Ids of the split."""
        return self._numbers()[5]

    @property
    def documents(self) -> int:
        """Documents of the split."""
        return self._numbers()[6]

    @property
    def sample(self) -> int:
        """The first global sample of the next step."""
        if self._ahead is not None:
            return self._ahead_from + self._ahead.given * self.batch * self.world
        return self._numbers()[11]

    @property
    def domains(self) -> list[Domain]:
        """In order of their names; one with the name "" where no domains were given; none of a server's."""
        out: list[Domain] = []
        a = (ctypes.c_int64 * len(_ROW))()
        while True:
            name = self._lib.dp_feed_abi_domain(self._open(), len(out), a, len(_ROW))
            if name is None:
                return out
            out.append(Domain(name.decode(), *a))

    def next(self, out: Optional[NDArray[np.int32]] = None) -> NDArray[np.int32]:
        """This rank's rows of the next step, int32 [batch, seq_len + 1]; into `out` when it is given, which saves the allocation."""
        if out is None:
            out = np.empty(self._shape, np.int32)
        elif out.shape != self._shape or out.dtype != np.int32 or not out.flags.c_contiguous or not out.flags.writeable:
            raise ValueError(f"out must be a writeable C-contiguous int32 array of shape {self._shape}")
        if self._ahead is not None or not self._h:
            self._open()
        self._fill(self._rows, _address(out))
        return out

    def next_batch(self) -> Batch:
        """The next step's rows with segments, positions, loss mask, domains and sample numbers."""
        B, T = self.batch, self.seq_len
        ids, cu = np.empty((B, T + 1), np.int32), np.empty((B, T + 1), np.int32)
        segments, positions, loss = np.empty(B, np.int32), np.empty((B, T), np.int32), np.empty((B, T), np.bool_)
        domain, sample = np.empty(B, np.uint32), np.empty(B, np.uint64)
        self._fill_all(self._lib.dp_feed_abi_next, *map(_address, (ids, cu, segments, positions, loss, domain, sample)))
        return Batch(ids, cu, segments, positions, loss, domain, sample)

    def next_pair(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The next step as (inputs, targets), each a contiguous int64 [batch, seq_len]."""
        pair = np.empty((2, self.batch, self.seq_len), np.int64)
        self.fill_pairs(_address(pair))
        return pair[0], pair[1]

    def fill_rows(self, rows: int) -> None:
        """The next step into memory at this address: int32 [batch, seq_len + 1]. For frameworks, as the two below: the caller keeps the
        memory alive, writeable and large enough."""
        self._open()
        self._fill(self._rows, rows)

    def fill_pairs(self, pairs: int) -> None:
        """The next step into memory at this address: int64 [2, batch, seq_len], inputs and targets."""
        self._open()
        self._fill(self._pairs, pairs)

    def fill_pair(self, inputs: int, targets: int, cu_seqlens: Optional[int] = None, segments: Optional[int] = None,
                  positions: Optional[int] = None, loss_mask: Optional[int] = None, domain: Optional[int] = None,
                  sample: Optional[int] = None) -> None:
        """The same with inputs and targets apart, int64 [batch, seq_len], and the rest typed as Batch says."""
        self._fill_all(self._lib.dp_feed_abi_next_pair, inputs, targets, cu_seqlens, segments, positions, loss_mask, domain, sample)

    @overload
    def ahead(self, depth: int = 2, make: None = None) -> Generator[NDArray[np.int32], None, None]: ...

    @overload
    def ahead(self, depth: int, make: Callable[["Feed"], T]) -> Generator[T, None, None]: ...

    def ahead(self, depth: int = 2, make: Optional[Callable[["Feed"], Any]] = None) -> Generator[Any, None, None]:
        """Steps made in a thread while earlier ones are used, up to `depth` of them: for cold or compressed shards and servers, where a step takes
        longer than the microseconds that handing it over costs. make: what a step is, Feed.next unless given (Feed.next_pair, Feed.next_batch, or a
        function of your own). sample, state_dict() and all else go by what was taken from the iterator, and it goes on behind what they change."""
        if depth < 1:
            raise ValueError(f"a depth of {depth} is below 1")
        step: Callable[[Feed], Any] = make or Feed.next
        mine: Ahead[Any] = self._begin_ahead(step, depth)
        try:
            while True:
                if self._ahead is not mine:
                    mine = self._begin_ahead(step, depth)
                yield mine.get()
        finally:
            if self._ahead is mine and self._h:
                self._rewind()

    def _begin_ahead(self, step: Callable[["Feed"], Any], depth: int) -> "Ahead[Any]":
        self._open()
        self._ahead_from = self.sample
        maker = _Maker(self)
        h, stop = self._h, self._lib.dp_feed_abi_stop
        self._ahead = Ahead(lambda: step(maker), depth, lambda on: stop(h, on))
        return self._ahead

    def _rewind(self) -> None:
        """End the thread that makes steps ahead, and go back to the first that was not taken."""
        if self._ahead is None:
            return
        at = self.sample
        self._ahead.stop()
        self._ahead = None
        if self._numbers()[11] != at:
            self._check(self._lib.dp_feed_abi_seek(self._h, at, self._m, _lib.MESSAGE_BYTES))

    def row(self, sample: int) -> NDArray[np.int32]:
        """int32 [seq_len + 1] of one global sample; the cursor stays."""
        out = np.empty(self.seq_len + 1, np.int32)
        self._check(self._lib.dp_feed_abi_get(self._open(), _natural(sample), out.ctypes.data, self._m, _lib.MESSAGE_BYTES))
        return out

    def seek(self, sample: int) -> None:
        """Go on at this global sample."""
        self._check(self._lib.dp_feed_abi_seek(self._open(), _natural(sample), self._m, _lib.MESSAGE_BYTES))

    def reload(self) -> bool:
        """Look for more shards behind the known ones; each domain takes them up when its next epoch begins. True when there are some.

        A feed that was opened by a workspace looks into its newest manifest. Raises when that doesn't begin with the known shards:
        then the workspace was made anew, and this feed can go on with what it has."""
        code = self._lib.dp_feed_abi_reload(self._open(), self._m, _lib.MESSAGE_BYTES)
        self._check(code)
        return bool(code == 0)

    def origin(self, sample: int, token: int = 0) -> Optional[Origin]:
        """Where id `token` of a global sample's row came from; None for padding."""
        shard, domain = ctypes.c_char_p(), ctypes.c_char_p()
        numbers = (ctypes.c_int64 * 5)()
        hexes = ctypes.create_string_buffer(33), ctypes.create_string_buffer(33)
        code = self._lib.dp_feed_abi_locate(
            self._open(), _natural(sample), _natural(token), ctypes.byref(shard), ctypes.byref(domain), numbers, hexes[0], hexes[1], self._m,
            _lib.MESSAGE_BYTES)
        self._check(code)
        if code > 0:
            return None
        shard_number, document, document_token, shard_token, source = numbers
        return Origin((shard.value or b"").decode(), (domain.value or b"").decode(), shard_number, document, document_token, shard_token, source,
                      hexes[0].value.decode(), hexes[1].value.decode())

    def state_dict(self) -> dict[str, Any]:
        """Where the run is and what it reads: JSON-able, under 400 bytes, equal on all ranks."""
        state = ctypes.create_string_buffer(_lib.STATE_BYTES)
        sample = self.sample
        self._lib.dp_feed_abi_state(self._h, state)
        # Its first number is the sample, which is another one while steps are made ahead.
        return {"version": 1, "sample": sample, "feed": (sample.to_bytes(8, "little") + state.raw[8:]).hex()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where state_dict() was asked. Batch, rank and world may differ; ConfigError names anything else that does. After a
        failure the feed is as it was."""
        if state.get("version") != 1 or not isinstance(state.get("feed"), str):
            raise _lib.ConfigError("feed: this is no state of a dpipe feed", -7)
        try:
            raw = bytes.fromhex(state["feed"])
        except ValueError:
            raise _lib.CorruptError("feed: the state's text is damaged", -4) from None
        self._check(self._lib.dp_feed_abi_resume(self._open(), raw, len(raw), self._m, _lib.MESSAGE_BYTES))

    def close(self) -> None:
        """Unmap the shards. Closing twice is fine."""
        if self._h and self._ahead is not None:
            self._ahead.stop()
            self._ahead = None
        h, self._h = self._h, 0
        if h:
            self._lib.dp_feed_abi_close(h)

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        while True:
            yield self.next()

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_h", 0) and getattr(self, "_lib", None):
            self.close()

    def __repr__(self) -> str:
        if not self._h:
            return "<dpipe.Feed closed>"
        return f"<dpipe.Feed {self.batch} x {self.seq_len} of {self.tokens} ids, rank {self.rank} of {self.world}, at sample {self.sample}>"


class _Maker(Feed):
    """The same feed for the thread that makes steps ahead: its cursor is the library's. It owns nothing."""

    def __init__(self, feed: Feed) -> None:
        self._message = _lib.message()
        self._m = ctypes.addressof(self._message)
        for name in ("_h", "_lib", "_connected", "_shape", "_rows", "_pairs", "seq_len", "batch", "rank", "world", "vocab_size", "eot", "pad"):
            setattr(self, name, getattr(feed, name))
        self._ahead, self._ahead_from = None, 0

    def __del__(self) -> None:
        pass


def _asks_workspaces(domains: Union[Mapping[str, PathLike], str, None]) -> bool:
    """Whether a domain is no manifest, but a workspace's folder or some of its sources."""
    if isinstance(domains, Mapping):
        values = [os.fsdecode(v) for v in domains.values()]
    else:
        values = [d.partition("=")[2] for d in (domains or "").split(",")]
    return any(v.startswith("source:") or os.path.isdir(v) for v in values if v)


def _address(array: Any) -> int:
    # array.ctypes.data takes seven times as long.
    return ctypes.addressof(ctypes.c_char.from_buffer(array))


def _encoded(path: Optional[PathLike]) -> Optional[bytes]:
    return None if path is None else os.fsencode(path)


def _natural(n: int) -> int:
    if not 0 <= n < 1 << 63:
        raise ValueError(f"{n} is outside 0 to 2^63 - 1")
    return n
