"""The order in which a run sees its samples: it can be resumed anywhere, and does not depend on the processes.

A global batch is a stretch of the epoch's permutation; each process of a distributed run takes its equal share.
Samples that do not fill the last global batch of an epoch wait for the next epoch, so none comes twice in one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from multimodal.common.errors import DataError


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Endless batches of (epoch, sample number) for one process of a distributed run, beginning at any step.

    The samples of a step are a stretch of the epoch's permutation, `global_batch` long. It is cut into `accumulate` x
    `world_size` equal parts; the process takes its part of each of the `accumulate` rounds in turn. So neither the
    number of processes nor the accumulation changes which samples a step sees.
    """

    def __init__(
        self,
        num_samples: int,
        global_batch: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        first_step: int = 0,
    ) -> None:
        """See the class.

        Raises:
            DataError: fewer samples than one global batch.
            ValueError: the global batch does not divide into the parts.
        """
        if global_batch < 1 or global_batch % (world_size * accumulate):
            raise ValueError(
                f"batch size {global_batch} does not divide into {world_size} processes x {accumulate} accumulated "
                f"parts; take a multiple of {world_size * accumulate}"
            )
        if num_samples < global_batch:
            raise DataError(f"{num_samples} samples do not fill one batch of {global_batch}; lower the batch size")
        self.num_samples = num_samples
        self.global_batch = global_batch
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.accumulate = accumulate
        self.first_step = first_step

    @property
    def steps_per_epoch(self) -> int:
        return self.num_samples // self.global_batch

    @property
    def part_size(self) -> int:
        """Samples in one part."""
        return self.global_batch // (self.world_size * self.accumulate)

    def part(self, accumulated: int) -> slice:
        """Where this process's part of round `accumulated` lies in the global batch."""
        first = (accumulated * self.world_size + self.rank) * self.part_size
        return slice(first, first + self.part_size)

    def batch(self, step: int, accumulated: int = 0) -> list[tuple[int, int]]:
        """This process's part of round `accumulated` of a step, which is counted from the beginning of training."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)
        whole = order[position * self.global_batch :][: self.global_batch]
        return [(epoch, int(number)) for number in whole[self.part(accumulated)]]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step = self.first_step
        while True:
            for accumulated in range(self.accumulate):
                yield self.batch(step, accumulated)
            step += 1
