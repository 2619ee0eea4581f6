"""The whole of docs/payload.md: no sentence of its lists without a test."""

from __future__ import annotations

import test_payload_classes
import test_payload_reading
import test_payload_refusals
import test_payload_values
from payload_cases import contract

HOLDERS = (test_payload_classes, test_payload_reading, test_payload_refusals, test_payload_values)


def test_each_sentence_of_the_page_is_held() -> None:
    assert {holder.contract for holder in HOLDERS} == {contract}
    assert contract.unheld() == []
