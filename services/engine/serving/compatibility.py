"""Whether two workers may share memory."""

from __future__ import annotations

from perigee.v1 import worker_pb2


def explain_mismatch(owner: worker_pb2.WorkerInfo, hello: worker_pb2.ReaderHello) -> str | None:
    """Why this reader must not read this owner's memory, in words; None when it may.

    A reader without a KV layout reads embeddings only: then just the models are compared.
    """
    mine, theirs = owner.model, hello.model
    differences: list[str] = []
    if mine.fingerprint != theirs.fingerprint:
        differences.append(
            f"checkpoint: {mine.name} {mine.fingerprint.hex()[:12]} here, "
            f"{theirs.name} {theirs.fingerprint.hex()[:12]} at the reader"
        )
    if mine.hidden_size != theirs.hidden_size:
        differences.append(f"hidden size: {mine.hidden_size} here, {theirs.hidden_size} at the reader")
    if hello.HasField("layout") and owner.HasField("layout"):
        for field in ("num_layers", "page_tokens", "width", "dtype"):
            here, there = getattr(owner.layout, field), getattr(hello.layout, field)
            if here != there:
                differences.append(f"KV layout {field}: {here} here, {there} at the reader")
    return "; ".join(differences) or None
