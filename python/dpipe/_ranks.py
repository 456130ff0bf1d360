from __future__ import annotations

import os
from typing import Optional

from . import _lib

# What a launcher sets: torchrun (and accelerate, deepspeed), srun, Open MPI's mpirun, MPICH's and Intel's mpiexec. Of Slurm's variables the number of
# the step's tasks is taken, which only srun sets: SLURM_NTASKS stands in the environment of a batch script too, which is one process.
LAUNCHERS = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


def rank_and_world(rank: Optional[int] = None, world: Optional[int] = None) -> tuple[int, int]:
    """This process's number and how many there are: what is given; else what torchrun, Open MPI, MPICH or Slurm's srun says in the environment, in
    this order; else 0 of 1."""
    if (rank is None) != (world is None):
        raise _lib.ConfigError("feed: give both rank and world, or neither", -7)
    if rank is not None and world is not None:
        return rank, world
    for names in LAUNCHERS:
        texts = [os.environ.get(n) for n in names]
        if texts[1] is None and (texts[0] is None or names[0] == "SLURM_PROCID"):
            continue
        try:
            return int(texts[0] or ""), int(texts[1] or "")
        except ValueError:
            said = " and ".join(f"{n}={t}" if t is not None else f"no {n}" for n, t in zip(names, texts))
            raise _lib.ConfigError(f"feed: {said} in the environment: both must be numbers", -7) from None
    return 0, 1
