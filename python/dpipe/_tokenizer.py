from __future__ import annotations

import codecs
import ctypes
import os
import threading
from typing import TYPE_CHECKING, Any, Callable, Iterable, Optional, Sequence, Union

import numpy as np

from . import _lib

if TYPE_CHECKING:  # 16 ms otherwise
    from numpy.typing import NDArray

Text = Union[str, bytes]
Ids = Union[Sequence[int], "NDArray[np.integer[Any]]"]


def _raw(text: Text) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)


def _sound(text: Text) -> bytes:
    """Valid UTF-8: U+FFFD for what bytes have else, and for surrogates of a str without their other half, as tiktoken has it."""
    if isinstance(text, str):
        try:
            return text.encode()
        except UnicodeEncodeError:
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    return bytes(text).decode("utf-8", "replace").encode()


def _as_ids(ids: Ids) -> "NDArray[np.uint32]":
    a = np.asarray(ids)
    if a.size and (a.dtype.kind not in "iu" or int(a.min()) < 0 or int(a.max()) >= 1 << 32):
        raise ValueError("ids are whole numbers from 0 to 2^32 - 1")
    return np.ascontiguousarray(a.reshape(-1), dtype=np.uint32)


def _copy(at: Optional[int], count: int, dtype: Any) -> "NDArray[Any]":
    """An array of one's own of what the library gave."""
    a = np.empty(count, dtype)
    if count:
        ctypes.memmove(a.ctypes.data, at or 0, a.nbytes)
    return a


class _Batch:
    """Texts one behind the other, with their ends."""

    def __init__(self, texts: Iterable[Text], raw: Callable[[Text], bytes]) -> None:
        parts = [raw(t) for t in texts]
        self.n = len(parts)
        self.text = b"".join(parts)
        self.end = np.cumsum([len(p) for p in parts], dtype=np.uint64) if parts else np.empty(0, np.uint64)


class Tokenizer:
    """A byte-level BPE vocabulary: a tokenizer.json, or a .tiktoken file.

    split: the pre-tokenizer (gpt2, cl100k, o200k, qwen2, ...), None for the file's own. specials: True turns the texts of special tokens into
    their ids; False, right for foreign text, leaves them ordinary text. cache_bytes: the budget for pretokens that were seen before, 0 for 96 MiB;
    ids never depend on it. utf8: what becomes of bytes that are no UTF-8: "keep" encodes them as they are, "replace" as U+FFFD, as tiktoken has them, and so
    a str's lone surrogates, which are an error otherwise; offsets are then of that text. Ids are those of Hugging Face's encode(add_special_tokens=False) and of tiktoken's encode_ordinary. Any number of
    threads may share one; they take turns, and work at the same time with a clone() each. Closed with the object.
    """

    def __init__(self, path: Union[str, "os.PathLike[str]"], *, split: Optional[str] = None, specials: bool = False, cache_bytes: int = 0,
                 utf8: str = "keep") -> None:
        handle = ctypes.c_void_p()
        message = _lib.message()
        code = _lib.library().dp_tokenizer_abi_open(ctypes.byref(handle), os.fsencode(path), split.encode() if split is not None else None, int(specials),
                                                    cache_bytes, ctypes.addressof(message), _lib.MESSAGE_BYTES)
        if code < 0:
            _lib.fail(code, message.value)
        self._take(handle, specials, utf8)

    @classmethod
    def from_bytes(cls, content: bytes, *, split: Optional[str] = None, specials: bool = False, cache_bytes: int = 0, name: str = "tokenizer",
                   utf8: str = "keep") -> "Tokenizer":
        """From the content of such a file; `name` stands in messages."""
        handle = ctypes.c_void_p()
        message = _lib.message()
        code = _lib.library().dp_tokenizer_abi_open_memory(ctypes.byref(handle), content, len(content), name.encode(), split.encode() if split is not None else None,
                                                           int(specials), cache_bytes, ctypes.addressof(message), _lib.MESSAGE_BYTES)
        if code < 0:
            _lib.fail(code, message.value)
        t = cls.__new__(cls)
        t._take(handle, specials, utf8)
        return t

    def clone(self, *, specials: Optional[bool] = None, cache_bytes: int = 0, utf8: Optional[str] = None) -> "Tokenizer":
        """Another one on the same vocabulary, which is there once: for another thread, or to take special tokens or bad bytes otherwise. It shares the cache too, unless
        it gets cache_bytes of its own."""
        handle = ctypes.c_void_p()
        message = _lib.message()
        specials = self._specials if specials is None else specials
        code = self._lib.dp_tokenizer_abi_clone(ctypes.byref(handle), self._handle, int(specials), cache_bytes, ctypes.addressof(message), _lib.MESSAGE_BYTES)
        if code < 0:
            _lib.fail(code, message.value)
        t = type(self).__new__(type(self))
        t._take(handle, specials, self._utf8 if utf8 is None else utf8)
        return t

    def _take(self, handle: ctypes.c_void_p, specials: bool, utf8: str) -> None:
        self._lib = lib = _lib.library()
        self._handle = handle
        if utf8 not in ("keep", "replace"):
            raise ValueError(f'utf8 is "keep" or "replace", not {utf8!r}')
        self._specials = specials
        self._utf8 = utf8
        self._raw = _sound if utf8 == "replace" else _raw
        self._message = _lib.message()
        self._m = ctypes.addressof(self._message)
        self._lock = threading.Lock()
        self.vocab_size: int = lib.dp_tokenizer_abi_size(handle)
        eot = lib.dp_tokenizer_abi_eot(handle)
        self.eot: Optional[int] = eot if eot >= 0 else None

    def _check(self, code: int) -> None:
        if code < 0:
            _lib.fail(code, self._message.value)

    def encode(self, text: Text) -> NDArray[np.uint32]:
        """The ids of a text; bytes that are no UTF-8 are encoded too, as `utf8` says."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Iterable[Text]) -> list[NDArray[np.uint32]]:
        """The ids of each text, in one call; the arrays are views of one."""
        b = _Batch(texts, self._raw)
        id_end = np.empty(b.n, np.uint64)
        at = ctypes.c_void_p()
        with self._lock:
            self._check(self._lib.dp_tokenizer_abi_encode(self._handle, b.text, b.end.ctypes.data, b.n, ctypes.byref(at), id_end.ctypes.data, self._m,
                                                          _lib.MESSAGE_BYTES))
            ids = _copy(at.value, int(id_end[-1]) if b.n else 0, np.uint32)
        return np.split(ids, id_end[:-1].astype(np.int64)) if b.n else []

    def encode_offsets(self, text: Text, unit: str = "chars") -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The ids of a text and where each stands in it: an array [ids, 2] of begins and ends, in "chars" (what a str is sliced by) or "bytes". A token
        that begins or ends inside a character has all of it in chars, as with Hugging Face's ByteLevel(trim_offsets=False)."""
        if unit not in ("chars", "bytes"):
            raise ValueError(f'unit is "chars" or "bytes", not {unit!r}')
        b = _Batch([text], self._raw)
        id_end = np.empty(1, np.uint64)
        at, places = ctypes.c_void_p(), ctypes.c_void_p()
        with self._lock:
            self._check(self._lib.dp_tokenizer_abi_encode_offsets(self._handle, b.text, b.end.ctypes.data, 1, int(unit == "chars"), ctypes.byref(at),
                                                                  id_end.ctypes.data, ctypes.byref(places), self._m, _lib.MESSAGE_BYTES))
            n = int(id_end[0])
            ids, offsets = _copy(at.value, n, np.uint32), _copy(places.value, 2 * n, np.int64)
        return ids, offsets.reshape(n, 2)

    def count(self, text: Text) -> int:
        """How many ids a text has."""
        return int(self.count_batch([text])[0])

    def count_batch(self, texts: Iterable[Text]) -> NDArray[np.uint64]:
        """How many ids each text has; none are kept."""
        b = _Batch(texts, self._raw)
        count = np.empty(b.n, np.uint64)
        with self._lock:
            self._check(self._lib.dp_tokenizer_abi_count(self._handle, b.text, b.end.ctypes.data, b.n, count.ctypes.data, self._m, _lib.MESSAGE_BYTES))
        return count

    def encode_stream(self, bytes_max: int = 0) -> "EncodeStream":
        """For a text that comes in pieces. bytes_max: the most that may be kept back, 0 for 1 GiB."""
        return EncodeStream(self, bytes_max)

    def decode_stream(self, errors: str = "replace", skip_specials: bool = False) -> "DecodeStream":
        """For ids that come one by one. errors: "replace" makes U+FFFD of what isn't UTF-8, "surrogateescape" keeps its bytes as Python does."""
        return DecodeStream(self, errors, skip_specials)

    def decode_bytes(self, ids: Ids) -> bytes:
        """The bytes of ids; CorruptError for an id that no token has."""
        a = _as_ids(ids)
        at, size = ctypes.c_void_p(), ctypes.c_size_t()
        with self._lock:
            self._check(self._lib.dp_tokenizer_abi_decode(self._handle, a.ctypes.data, a.size, ctypes.byref(at), ctypes.byref(size), self._m,
                                                          _lib.MESSAGE_BYTES))
            return ctypes.string_at(at.value, size.value) if size.value and at.value else b""

    def decode(self, ids: Ids, errors: str = "replace") -> str:
        """The text of ids; what isn't UTF-8 (half a character at a row's end) as `errors` says."""
        return self.decode_bytes(ids).decode("utf-8", errors)

    def id_to_bytes(self, id: int) -> Optional[bytes]:
        """The bytes of a token, a special one's text; None: no token has this id."""
        at, size = ctypes.c_void_p(), ctypes.c_size_t()
        if not 0 <= id < 1 << 32 or not self._lib.dp_tokenizer_abi_token(self._handle, id, ctypes.byref(at), ctypes.byref(size)):
            return None
        return ctypes.string_at(at.value or 0, size.value)

    def token_to_id(self, token: Text) -> Optional[int]:
        """The id of a special token or an ordinary one, by its text; None: there is no such token."""
        raw = _raw(token)
        found = self._lib.dp_tokenizer_abi_id(self._handle, raw, len(raw))
        return found if found >= 0 else None

    @property
    def special_tokens(self) -> dict[str, int]:
        """Texts and ids of the special tokens."""
        out: dict[str, int] = {}
        at, size, id_ = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_uint32()
        k = 0
        while self._lib.dp_tokenizer_abi_special(self._handle, k, ctypes.byref(at), ctypes.byref(size), ctypes.byref(id_)):
            out[ctypes.string_at(at.value or 0, size.value).decode("utf-8", "replace")] = id_.value
            k += 1
        return out

    @property
    def digest(self) -> str:
        """32 hex digits of all that decides ids; a manifest names the same for the tokenizer it was made with."""
        text = ctypes.create_string_buffer(33)
        self._lib.dp_tokenizer_abi_digest(self._handle, text)
        return text.value.decode()

    def __len__(self) -> int:
        return self.vocab_size

    def __del__(self) -> None:
        if getattr(self, "_handle", None) and getattr(self, "_lib", None):
            handle, self._handle = self._handle, ctypes.c_void_p()
            self._lib.dp_tokenizer_abi_close(handle)


class DecodeStream:
    """Ids in, text out as soon as it is whole characters; all texts together are the decoding of all ids. One thread a stream."""

    def __init__(self, tokenizer: Tokenizer, errors: str = "replace", skip_specials: bool = False) -> None:
        if errors not in ("replace", "surrogateescape"):
            raise ValueError(f'errors is "replace" or "surrogateescape", not {errors!r}')
        self._handle = ctypes.c_void_p()
        self._errors = errors
        self._message = _lib.message()
        self._m = ctypes.addressof(self._message)
        self._lib = _lib.library()
        self._check(self._lib.dp_tokenizer_abi_decoder_open(ctypes.byref(self._handle), tokenizer._handle, int(errors != "replace"), int(skip_specials), self._m,
                                                            _lib.MESSAGE_BYTES))

    def _check(self, code: int) -> None:
        if code < 0:
            _lib.fail(code, self._message.value)

    def push(self, ids: Union[int, Ids]) -> str:
        """One id or several; the text that is certain now, often one token's."""
        a = _as_ids([ids] if isinstance(ids, int) else ids)
        at, size = ctypes.c_void_p(), ctypes.c_size_t()
        self._check(self._lib.dp_tokenizer_abi_decoder_push(self._handle, a.ctypes.data, a.size, ctypes.byref(at), ctypes.byref(size), self._m, _lib.MESSAGE_BYTES))
        return self._text(at, size)

    def finish(self) -> str:
        """The ids end: what was kept back. The stream then takes other ids."""
        at, size = ctypes.c_void_p(), ctypes.c_size_t()
        self._check(self._lib.dp_tokenizer_abi_decoder_finish(self._handle, ctypes.byref(at), ctypes.byref(size), self._m, _lib.MESSAGE_BYTES))
        return self._text(at, size)

    def _text(self, at: ctypes.c_void_p, size: ctypes.c_size_t) -> str:
        return ctypes.string_at(at.value, size.value).decode("utf-8", self._errors) if size.value and at.value else ""

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            handle, self._handle = self._handle, ctypes.c_void_p()
            self._lib.dp_tokenizer_abi_decoder_close(handle)


class EncodeStream:
    """Pieces of a text in, ids out as soon as no further text can change them; all together the ids of the whole. It keeps back what may still become another
    token: a few bytes of ordinary text, up to bytes_max. One thread a stream; the tokenizer may be used meanwhile."""

    def __init__(self, tokenizer: Tokenizer, bytes_max: int = 0) -> None:
        self._handle = ctypes.c_void_p()
        self._tokenizer = tokenizer
        self._sound = codecs.getincrementaldecoder("utf-8")("replace") if tokenizer._utf8 == "replace" else None
        with tokenizer._lock:
            tokenizer._check(tokenizer._lib.dp_tokenizer_abi_stream_open(ctypes.byref(self._handle), tokenizer._handle, bytes_max, tokenizer._m, _lib.MESSAGE_BYTES))

    def push(self, text: Text) -> NDArray[np.uint32]:
        """The next piece, cut anywhere; bytes may end inside a character."""
        raw = self._tokenizer._raw(text) if isinstance(text, str) else bytes(text)
        return self._push(self._sound.decode(raw).encode() if self._sound else raw)

    def _push(self, raw: bytes) -> NDArray[np.uint32]:
        t, at, n = self._tokenizer, ctypes.c_void_p(), ctypes.c_size_t()
        with t._lock:
            t._check(t._lib.dp_tokenizer_abi_stream_push(self._handle, raw, len(raw), ctypes.byref(at), ctypes.byref(n), t._m, _lib.MESSAGE_BYTES))
        return _copy(at.value, n.value, np.uint32)

    def finish(self) -> NDArray[np.uint32]:
        """The text ends: the rest. The stream then takes another text."""
        last = self._sound.decode(b"", True).encode() if self._sound else b""
        before = self._push(last) if last else None
        t, at, n = self._tokenizer, ctypes.c_void_p(), ctypes.c_size_t()
        with t._lock:
            t._check(t._lib.dp_tokenizer_abi_stream_finish(self._handle, ctypes.byref(at), ctypes.byref(n), t._m, _lib.MESSAGE_BYTES))
        ids = _copy(at.value, n.value, np.uint32)
        return ids if before is None else np.concatenate([before, ids])

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            handle, self._handle = self._handle, ctypes.c_void_p()
            self._tokenizer._lib.dp_tokenizer_abi_stream_close(handle)
