"""libdpipe by ctypes: finding it, the functions of daemon/feed_abi.h and tokenizer/tokenizer_abi.h, errors.

Looked for in this order: what DPIPE_LIBRARY names, those in this package, the system's libdpipe.so.0. A wheel made by `make wheel` carries two:
libdpipe-feed.so.0, which needs nothing of the system but libc, and libdpipe.so.0, the whole, which is taken where a workspace is to be read. They are
loaded at the first use, so importing dpipe works without.
"""
from __future__ import annotations

import ctypes
import os
import threading
from ctypes import POINTER, c_char, c_char_p, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, NoReturn, Optional

ABI = 1
MESSAGE_BYTES = 512
STATE_BYTES = 176


class Error(Exception):
    """dpipe could not do what was asked; the message says what, where and what to do. `code` is the number of base/err.h."""

    def __init__(self, message: str, code: int = -11) -> None:
        super().__init__(message)
        self.code = code


class ConfigError(Error, ValueError):
    """An option, or a combination of them, that can't be."""


class CorruptError(Error, ValueError):
    """Bad data: a checksum, an id, a file's format."""


class NotFound(Error, FileNotFoundError):
    """A file that isn't there."""


_KINDS = {-1: MemoryError, -4: CorruptError, -6: ConfigError, -7: ConfigError, -8: NotFound}

_text, _size, _out = c_char_p, c_size_t, POINTER
_message = [c_void_p, c_size_t]
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "dp_abi_version": (c_int, []),
    "dp_abi_release": (_text, []),
    "dp_feed_abi_open": (c_int, [_out(c_void_p), _text, _text, _text, *_message]),
    "dp_feed_abi_connect": (c_int, [_out(c_void_p), _text, _text, c_uint64, _text, _size, *_message]),
    "dp_feed_abi_close": (None, [c_void_p]),
    "dp_feed_abi_numbers": (_size, [c_void_p, _out(c_int64), _size]),
    "dp_feed_abi_domain": (_text, [c_void_p, _size, _out(c_int64), _size]),
    "dp_feed_abi_next": (c_int, [c_void_p] * 8 + _message),
    "dp_feed_abi_next_pair": (c_int, [c_void_p] * 9 + _message),
    "dp_feed_abi_rows": (c_int, [c_void_p, c_void_p]),
    "dp_feed_abi_pairs": (c_int, [c_void_p, c_void_p]),
    "dp_feed_abi_message": (_text, [c_void_p]),
    "dp_feed_abi_ready": (c_int64, [c_void_p]),
    "dp_feed_abi_stop": (None, [c_void_p, c_int]),
    "dp_feed_abi_get": (c_int, [c_void_p, c_uint64, c_void_p, *_message]),
    "dp_feed_abi_seek": (c_int, [c_void_p, c_uint64, *_message]),
    "dp_feed_abi_state": (None, [c_void_p, c_void_p]),
    "dp_feed_abi_resume": (c_int, [c_void_p, _text, _size, *_message]),
    "dp_feed_abi_reload": (c_int, [c_void_p, *_message]),
    "dp_feed_abi_locate": (c_int, [c_void_p, c_uint64, c_uint64, _out(_text), _out(_text), _out(c_int64), c_void_p, c_void_p, *_message]),
    "dp_tokenizer_abi_open": (c_int, [_out(c_void_p), _text, _text, c_int, _size, *_message]),
    "dp_tokenizer_abi_open_memory": (c_int, [_out(c_void_p), _text, _size, _text, _text, c_int, _size, *_message]),
    "dp_tokenizer_abi_clone": (c_int, [_out(c_void_p), c_void_p, c_int, _size, *_message]),
    "dp_tokenizer_abi_close": (None, [c_void_p]),
    "dp_tokenizer_abi_encode": (c_int, [c_void_p, _text, c_void_p, _size, _out(c_void_p), c_void_p, *_message]),
    "dp_tokenizer_abi_encode_offsets": (c_int, [c_void_p, _text, c_void_p, _size, c_int, _out(c_void_p), c_void_p, _out(c_void_p), *_message]),
    "dp_tokenizer_abi_count": (c_int, [c_void_p, _text, c_void_p, _size, c_void_p, *_message]),
    "dp_tokenizer_abi_decode": (c_int, [c_void_p, c_void_p, _size, _out(c_void_p), _out(_size), *_message]),
    "dp_tokenizer_abi_size": (c_uint32, [c_void_p]),
    "dp_tokenizer_abi_eot": (c_int64, [c_void_p]),
    "dp_tokenizer_abi_id": (c_int64, [c_void_p, _text, _size]),
    "dp_tokenizer_abi_token": (c_int, [c_void_p, c_uint32, _out(c_void_p), _out(_size)]),
    "dp_tokenizer_abi_special": (c_int, [c_void_p, _size, _out(c_void_p), _out(_size), _out(c_uint32)]),
    "dp_tokenizer_abi_digest": (None, [c_void_p, c_void_p]),
    "dp_tokenizer_abi_decoder_open": (c_int, [_out(c_void_p), c_void_p, c_int, c_int, *_message]),
    "dp_tokenizer_abi_decoder_push": (c_int, [c_void_p, c_void_p, _size, _out(c_void_p), _out(_size), *_message]),
    "dp_tokenizer_abi_decoder_finish": (c_int, [c_void_p, _out(c_void_p), _out(_size), *_message]),
    "dp_tokenizer_abi_decoder_close": (None, [c_void_p]),
    "dp_tokenizer_abi_stream_open": (c_int, [_out(c_void_p), c_void_p, _size, *_message]),
    "dp_tokenizer_abi_stream_push": (c_int, [c_void_p, _text, _size, _out(c_void_p), _out(_size), *_message]),
    "dp_tokenizer_abi_stream_finish": (c_int, [c_void_p, _out(c_void_p), _out(_size), *_message]),
    "dp_tokenizer_abi_stream_close": (None, [c_void_p]),
}

_lock = threading.Lock()
_loaded: dict[str, ctypes.CDLL] = {}
_HERE = os.path.dirname(os.path.abspath(__file__))


def path(whole: bool = False) -> str:
    """The file that is, or would be, loaded; whole: for workspaces too."""
    named = os.environ.get("DPIPE_LIBRARY")
    if named:
        return named
    for name in ("libdpipe.so.0",) if whole else ("libdpipe-feed.so.0", "libdpipe.so.0"):
        if os.path.exists(os.path.join(_HERE, name)):
            return os.path.join(_HERE, name)
    return "libdpipe.so.0"


def library(whole: bool = False) -> ctypes.CDLL:
    """The library, loaded once."""
    name = path(whole)
    found = _loaded.get(name)
    if found is None:
        with _lock:
            found = _loaded.get(name) or _load(name)
            _loaded[name] = found
    return found


def _load(name: str) -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL(name)
    except OSError as e:
        if os.path.dirname(name) == _HERE and os.path.exists(name):
            raise ImportError(
                f"can't load {name}: {e}. It reads workspaces and needs libraries of the system that aren't there (ldd lists them); give the manifest instead, "
                "W/store/manifest-*.json"
            ) from None
        raise ImportError(
            f"can't load {name}: {e}. Install dpipe (`make install`, or its .deb), build a wheel that carries the library (`make wheel`), "
            "or name the file in DPIPE_LIBRARY"
        ) from None
    if not hasattr(lib, "dp_abi_version"):
        raise ImportError(f"{name} is a libdpipe without the functions for Python: it is older than this package")
    for function, (result, arguments) in _SIGNATURES.items():
        try:
            f = getattr(lib, function)
        except AttributeError:
            raise ImportError(f"{name} has no {function}: it is older than this package") from None
        f.restype, f.argtypes = result, arguments
    if lib.dp_abi_version() != ABI:
        raise ImportError(f"{name} has ABI {lib.dp_abi_version()}, and this package speaks {ABI}")
    return lib


def message() -> "ctypes.Array[c_char]":
    """Room for a message."""
    return ctypes.create_string_buffer(MESSAGE_BYTES)


def fail(code: int, text: bytes) -> NoReturn:
    """Raise what a negative code and its message mean."""
    what = text.decode("utf-8", "replace")
    kind = _KINDS.get(code, Error)
    if kind is MemoryError:
        raise MemoryError(what)
    raise kind(what, code)
