"""What the owners of a store in memory may use together."""

from __future__ import annotations

import attrs

from runtime.journal.allowances import Amount


@attrs.define(eq=False)
class MemoryAllowances:
    """Shared by all who have the store open."""

    _until_s: dict[str, float] = attrs.field(factory=dict[str, float])
    _spent: dict[str, Amount] = attrs.field(factory=dict[str, Amount])

    def owe(self, name: str, seconds: float, now_s: float) -> float:
        """See ``AllowanceStore.owe``."""
        owed = max(0.0, self._until_s.get(name, now_s) - now_s)
        self._until_s[name] = now_s + max(0.0, owed + seconds)
        return owed

    def spend(self, name: str, amount: Amount, most: Amount) -> tuple[bool, Amount]:
        """See ``AllowanceStore.spend``."""
        spent = self._spent.get(name, Amount())
        tokens, usd = spent.tokens + amount.tokens, spent.usd + amount.usd
        if tokens > most.tokens or usd > most.usd:
            return False, spent
        self._spent[name] = Amount(max(0.0, tokens), max(0.0, usd))
        return True, self._spent[name]
