"""Which workers may share memory."""

from __future__ import annotations

import pytest

from perigee.v1 import worker_pb2
from services.engine.serving.identity import explain_mismatch


def model(**changes) -> worker_pb2.ModelIdentity:
    fields = {"fingerprint": b"f" * 32, "name": "nano", "hidden_size": 128} | changes
    return worker_pb2.ModelIdentity(**fields)


def layout(**changes) -> worker_pb2.KvLayout:
    fields = {"num_pages": 8, "num_layers": 4, "page_tokens": 64, "width": 576, "format": "float32"} | changes
    return worker_pb2.KvLayout(**fields)


OWNER = worker_pb2.WorkerInfo(model=model(), layout=layout())


def test_equal_workers_agree_whatever_their_number_of_pages():
    hello = worker_pb2.ReaderHello(model=model(), layout=layout(num_pages=99))
    assert explain_mismatch(OWNER, hello) is None


@pytest.mark.parametrize(
    "change", [{"num_layers": 5}, {"page_tokens": 32}, {"width": 640}, {"format": "bfloat16"}]
)
def test_a_layout_that_differs_is_named_with_both_values(change):
    field, value = next(iter(change.items()))
    explanation = explain_mismatch(OWNER, worker_pb2.ReaderHello(model=model(), layout=layout(**change)))
    assert explanation is not None
    assert field.rpartition("_")[2] in explanation
    assert str(value) in explanation
    assert str(getattr(OWNER.layout, field)) in explanation


def test_different_kv_formats_are_refused_with_both_names_and_the_flag():
    hello = worker_pb2.ReaderHello(model=model(), layout=layout(format="int8-rows"))
    explanation = "KV format (--kv-format, by default that of --dtype): float32 here, int8-rows at the reader"
    assert explain_mismatch(OWNER, hello) == explanation


def test_a_different_checkpoint_is_refused_also_without_a_layout():
    hello = worker_pb2.ReaderHello(model=model(fingerprint=b"g" * 32, name="other"))
    assert "other" in (explain_mismatch(OWNER, hello) or "")


def test_a_reader_of_embeddings_needs_no_layout():
    assert explain_mismatch(OWNER, worker_pb2.ReaderHello(model=model())) is None
