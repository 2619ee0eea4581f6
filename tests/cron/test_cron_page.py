"""The whole of docs/cron.md: no sentence of its lists without a test."""

from __future__ import annotations

import test_cron_reference
import test_cron_refusals
import test_cron_slots
import test_cron_writing
import test_cron_zones
from cron_cases import contract

HOLDERS = (test_cron_reference, test_cron_refusals, test_cron_slots, test_cron_writing, test_cron_zones)


def test_each_sentence_of_the_page_is_held() -> None:
    assert {holder.contract for holder in HOLDERS} == {contract}
    assert contract.unheld() == []
