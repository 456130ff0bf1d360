from __future__ import annotations

import os
import unittest
from unittest import mock

import dpipe
from dpipe._ranks import LAUNCHERS


class Ranks(unittest.TestCase):
    def setUp(self) -> None:
        names = [n for pair in LAUNCHERS for n in pair]
        clean = mock.patch.dict(os.environ, {k: v for k, v in os.environ.items() if k not in names}, clear=True)
        clean.start()
        self.addCleanup(clean.stop)

    def test_launchers(self) -> None:
        self.assertEqual(dpipe.rank_and_world(), (0, 1))
        self.assertEqual(dpipe.rank_and_world(2, 5), (2, 5))
        for rank, world in LAUNCHERS:
            with mock.patch.dict(os.environ, {rank: "3", world: "4"}):
                self.assertEqual(dpipe.rank_and_world(), (3, 4))
                self.assertEqual(dpipe.rank_and_world(0, 1), (0, 1))
        # torchrun under Slurm
        with mock.patch.dict(os.environ, {"RANK": "5", "WORLD_SIZE": "8", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}):
            self.assertEqual(dpipe.rank_and_world(), (5, 8))

    def test_a_batch_script_is_one_process(self) -> None:
        with mock.patch.dict(os.environ, {"SLURM_PROCID": "0", "SLURM_NTASKS": "16"}):
            self.assertEqual(dpipe.rank_and_world(), (0, 1))

    def test_half_of_it_is_refused(self) -> None:
        for bad in {"RANK": "1"}, {"WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}, {"SLURM_STEP_NUM_TASKS": "2"}:
            with self.subTest(bad), mock.patch.dict(os.environ, bad), self.assertRaisesRegex(dpipe.ConfigError, "must be numbers"):
                dpipe.rank_and_world()
        for rank, world in (1, None), (None, 2):
            with self.assertRaises(dpipe.ConfigError):
                dpipe.rank_and_world(rank, world)


if __name__ == "__main__":
    unittest.main()
