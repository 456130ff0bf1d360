"""dpipe for Python: token rows from dpipe's shards, and its tokenizer.

    import dpipe
    feed = dpipe.Feed("data/manifest.json", seq_len=2048, batch=8, seed=1)
    for rows in feed:                 # int32 [8, 2049]
        inputs, targets = rows[:, :-1], rows[:, 1:]

`dpipe.torch.FeedDataset` is the same for PyTorch. What comes is what `dpipe feed --dump` writes, byte for byte.
"""
from ._lib import ConfigError, CorruptError, Error, NotFound, library
from ._feed import Batch, Domain, Feed, Origin
from ._ranks import rank_and_world
from ._tokenizer import DecodeStream, EncodeStream, Tokenizer

__version__ = "0.1.0"
__all__ = ["Batch", "ConfigError", "CorruptError", "DecodeStream", "Domain", "EncodeStream", "Error", "Feed", "NotFound", "Origin", "Tokenizer", "library_version", "rank_and_world"]


def library_version() -> str:
    """The version of the libdpipe that is used; ImportError when there is none."""
    return str(library().dp_abi_release().decode())
