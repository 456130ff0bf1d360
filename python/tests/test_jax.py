from __future__ import annotations

import unittest

import numpy as np

from . import fixture
import dpipe

try:
    import jax
    import jax.numpy as jnp
except ImportError as e:
    raise unittest.SkipTest(f"jax: {e}")


class Jax(unittest.TestCase):
    def test_arrays(self) -> None:
        d = fixture.data()
        with dpipe.Feed(d.manifest, seq_len=32, batch=4) as f, dpipe.Feed(d.manifest, seq_len=32, batch=4) as g:
            for put in jax.device_put, jnp.asarray, jax.dlpack.from_dlpack:
                rows, want = put(f.next()), g.next()
                self.assertEqual((rows.dtype, rows.shape), (jnp.int32, (4, 33)))
                self.assertTrue((np.asarray(rows) == want).all())

    def test_in_a_step(self) -> None:
        @jax.jit
        def loss(table: jax.Array, rows: jax.Array) -> jax.Array:
            return jnp.mean(table[rows[:, :-1]] * table[rows[:, 1:]])

        with dpipe.Feed(fixture.data().manifest, seq_len=32, batch=4) as f:
            table = jnp.arange(f.vocab_size, dtype=jnp.float32) / f.vocab_size
            for _, rows in zip(range(5), f.ahead(2)):
                x = np.asarray(table)[rows]
                self.assertAlmostEqual(float(loss(table, jax.device_put(rows))), float((x[:, :-1] * x[:, 1:]).mean()), places=5)


if __name__ == "__main__":
    unittest.main()
