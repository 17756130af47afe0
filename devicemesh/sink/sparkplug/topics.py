"""The topics of an Edge Node. Pure."""

from __future__ import annotations

from devicemesh.sink.topics import identity


class NodeTopics:
    """Topics of one Edge Node (Sparkplug 3.0, chapter 4); see `Addresses`."""

    def __init__(self, group: str, node: str) -> None:
        self._root, self._node = f"spBv1.0/{group}", node
        self.birth, self.death = self._own("NBIRTH"), self._own("NDEATH")
        self.gap, self.command = self._own("NDATA"), self._own("NCMD")
        self.commands = self._own("DCMD") + "/"

    def _own(self, verb: str) -> str:
        return f"{self._root}/{verb}/{self._node}"

    def device(self, device: str, suffix: str) -> str:
        """All that is told of a device is its data. Raises ValueError."""
        return self.of(device, "DDATA")

    def retained(self, device: str, suffix: str) -> str:
        """Nothing is retained; only for messages about it."""
        return self.of(device, "DDATA")

    def of(self, device: str, verb: str) -> str:
        """A topic of a device. Raises ValueError."""
        return f"{self._own(verb)}/{identity(device)}"
