"""The processes a training runs in, as torchrun tells them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from keyposs_trt.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """``rank``: which process this is, of ``world`` on all machines, ``local`` of them on this one."""

    rank: int = 0
    world: int = 1
    local: int = 1

    @classmethod
    def from_environment(cls) -> Processes:
        """As torchrun set RANK, WORLD_SIZE and LOCAL_WORLD_SIZE; one process where it did not.

        Raises:
            UsageError: the variables are not whole numbers that fit together.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        texts = [os.environ.get(name) for name in names]
        if all(text is None for text in texts):
            return cls()
        try:
            rank, world, local = (int(str(text)) for text in texts)
        except ValueError:
            rank, world, local = 0, 0, 0
        if not 0 <= rank < world or not 0 < local <= world or world % local:
            told = ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
            raise UsageError(f"{told} do not describe processes; start them with torchrun, or unset these variables.")
        return cls(rank, world, local)

    @property
    def machines(self) -> int:
        """How many machines take part."""
        return self.world // self.local
