"""A store whose answers wait until a test lets them go: for whatever happens between question and answer."""

from __future__ import annotations

import asyncio

from gateway.core.credential import Credential
from gateway.core.principal import KeyRecord
from gateway.ports import KeyChange, KeyStore


class GatedStore:
    """Reads when asked, as a real store does, and answers when `let_go` is called."""

    def __init__(self, inner: KeyStore) -> None:
        self._inner = inner
        self._gates: list[asyncio.Event] = []
        self.asked = 0
        self.is_open = False
        self.fault: BaseException | None = None

    @property
    def waiting(self) -> int:
        """Questions read but not answered."""
        return sum(not gate.is_set() for gate in self._gates)

    def let_go(self, at: int | None = None) -> None:
        """Answers one waiting question, or all."""
        closed = [gate for gate in self._gates if not gate.is_set()]
        for gate in closed if at is None else closed[at : at + 1]:
            gate.set()

    async def find(self, credential: Credential) -> KeyRecord | None:
        self.asked += 1
        found = await self._inner.find(credential)
        if not self.is_open:
            gate = asyncio.Event()
            self._gates.append(gate)
            await gate.wait()
        if self.fault is not None:
            raise self.fault
        return found

    async def position(self) -> int:
        return await self._inner.position()

    async def changes_since(self, position: int) -> list[KeyChange]:
        return await self._inner.changes_since(position)


async def settle() -> None:
    """Lets every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)
