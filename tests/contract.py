"""A page of docs/ as a contract: each sentence in one of its lists is claimed by a test that quotes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from conftest import CHECKOUT

T = TypeVar("T", bound=Callable[..., object])


class Contract:
    """The sentences of a page, and which of them the tests claim.

    contract = Contract("cron.md")

    @contract.holds("An empty crontab is refused.")
    def test_…
    """

    def __init__(self, page: str) -> None:
        self.text = (CHECKOUT / "docs" / page).read_text()
        items = re.findall(r"^- (.*(?:\n  .*)*)", self.text, re.MULTILINE)
        self.sentences = [" ".join(item.split()) for item in items]
        self._held: set[str] = set()

    def holds(self, *sentences: str) -> Callable[[T], T]:
        """The decorated test holds these sentences; they must be in the page, word for word."""
        for sentence in sentences:
            assert sentence in self.sentences, f"not in the page: {sentence}"
        self._held.update(sentences)
        return lambda test: test

    def unheld(self) -> list[str]:
        """The sentences that no test claims."""
        return [sentence for sentence in self.sentences if sentence not in self._held]
