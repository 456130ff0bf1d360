from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING, Any, Iterable, Optional, Sequence, Union

import numpy as np

from . import _lib

if TYPE_CHECKING:  # 16 ms otherwise
    from numpy.typing import NDArray

Text = Union[str, bytes]


class Tokenizer:
    """A byte-level BPE vocabulary: a tokenizer.json, or a .tiktoken file.

    split: the pre-tokenizer (gpt2, cl100k, o200k, qwen2, ...), None for the file's own. specials: True turns the texts of special tokens into
    their ids; False, right for foreign text, leaves them ordinary text. cache_bytes: the encoder's cache, 0 for 24 MiB.
    Ids are those of Hugging Face's encode(add_special_tokens=False) and of tiktoken's encode_ordinary. Any number of threads may share
    one; they take turns. Closed with the object.
    """

    def __init__(self, path: Union[str, "os.PathLike[str]"], *, split: Optional[str] = None, specials: bool = False, cache_bytes: int = 0) -> None:
        self._handle = ctypes.c_void_p()
        self._message = _lib.message()
        self._m = ctypes.addressof(self._message)
        self._lock = threading.Lock()
        self._lib = lib = _lib.library()
        self._check(lib.dp_tokenizer_abi_open(ctypes.byref(self._handle), os.fsencode(path), split.encode() if split is not None else None,
                                              int(specials), cache_bytes, self._m, _lib.MESSAGE_BYTES))
        self.vocab_size: int = lib.dp_tokenizer_abi_size(self._handle)
        eot = lib.dp_tokenizer_abi_eot(self._handle)
        self.eot: Optional[int] = eot if eot >= 0 else None

    def _check(self, code: int) -> None:
        if code < 0:
            _lib.fail(code, self._message.value)

    def encode(self, text: Text) -> NDArray[np.uint32]:
        """The ids of a text; bytes that are no UTF-8 are encoded too."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Iterable[Text]) -> list[NDArray[np.uint32]]:
        """The ids of each text, in one call; the arrays are views of one."""
        parts = [t.encode() if isinstance(t, str) else bytes(t) for t in texts]
        n = len(parts)
        end = np.cumsum([len(p) for p in parts], dtype=np.uint64) if n else np.empty(0, np.uint64)
        id_end = np.empty(n, np.uint64)
        at = ctypes.c_void_p()
        with self._lock:
            self._check(self._lib.dp_tokenizer_abi_encode(self._handle, b"".join(parts), end.ctypes.data, n, ctypes.byref(at), id_end.ctypes.data,
                                                          self._m, _lib.MESSAGE_BYTES))
            total = int(id_end[-1]) if n else 0
            ids = np.empty(total, np.uint32)
            if total:
                ctypes.memmove(ids.ctypes.data, at.value or 0, total * 4)
        return np.split(ids, id_end[:-1].astype(np.int64)) if n else []

    def decode_bytes(self, ids: Union[Sequence[int], "NDArray[np.integer[Any]]"]) -> bytes:
        """The bytes of ids; CorruptError for an id that no token has."""
        a = np.asarray(ids)
        if a.size and (a.dtype.kind not in "iu" or int(a.min()) < 0 or int(a.max()) >= 1 << 32):
            raise ValueError("ids are whole numbers from 0 to 2^32 - 1")
        a = np.ascontiguousarray(a.reshape(-1), dtype=np.uint32)
        at, size = ctypes.c_void_p(), ctypes.c_size_t()
        with self._lock:
            self._check(self._lib.dp_tokenizer_abi_decode(self._handle, a.ctypes.data, a.size, ctypes.byref(at), ctypes.byref(size), self._m,
                                                          _lib.MESSAGE_BYTES))
            return ctypes.string_at(at.value, size.value) if size.value and at.value else b""

    def decode(self, ids: Union[Sequence[int], "NDArray[np.integer[Any]]"], errors: str = "replace") -> str:
        """The text of ids; what isn't UTF-8 (half a character at a row's end) as `errors` says."""
        return self.decode_bytes(ids).decode("utf-8", errors)

    def token_to_id(self, token: Text) -> Optional[int]:
        """The id of a special token or an ordinary one, by its text; None: there is no such token."""
        raw = token.encode() if isinstance(token, str) else bytes(token)
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
