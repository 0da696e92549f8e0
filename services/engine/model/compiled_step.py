"""A decode step as one call of a compiled loop: services/engine/native/decode_step.c."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from services.engine.batch import ForwardBatch
from services.engine.kv_cache.kv_format import FLOAT32, KvFormat
from services.engine.model.step_structs import BatchStruct, describe
from services.engine.model.text_model import TextModel
from services.engine.native.library import address, library


class CompiledStep:
    """Runs batches of one token per sequence over these pages; gives the same bits as `TextModel.forward`."""

    def __init__(self, loops: ctypes.CDLL, model: TextModel, kv_pages: Tensor) -> None:
        self._step, self._floats = loops.perigee_step, loops.perigee_step_floats
        self._step.restype, self._floats.restype = None, ctypes.c_int64
        self._model = model
        self._kv_pages = kv_pages
        self._described = describe(model)
        self._workspace = torch.empty(0)

    @classmethod
    def available(cls, model: TextModel, kv_pages: Tensor, kv_format: KvFormat) -> CompiledStep | None:
        """None unless every part of the model is compiled, for FLOAT32 pages on a CPU, and on one rank
        alone.
        """
        loops = library() if kv_format == FLOAT32 and kv_pages.device.type == "cpu" else None
        whole = model.group.rank.count == 1
        return cls(loops, model, kv_pages) if loops is not None and whole and model.is_compiled else None

    def takes(self, batch: ForwardBatch) -> bool:
        """Whether the batch is a decode step."""
        return batch.is_decode_step

    def run(self, batch: ForwardBatch) -> Tensor:
        """Logits float32 `[rows, vocab]`."""
        rows, pages, model = len(batch.sequences), self._kv_pages, self._model
        x = model.embedding(batch.token_ids)
        cos, sin = model.rotary.at(batch.positions)
        threads = torch.get_num_threads()
        plan = model.attention.plan(batch).kernel
        assert plan is not None
        logits = torch.empty(rows, self._described.vocab)
        tensors = (x, cos, sin, batch.slot_mapping, plan.tables, plan.seen, plan.tiles, pages)
        strides, tiles = pages.stride()[:2], (len(plan.tiles), plan.tile_rows)
        described = BatchStruct(*map(Tensor.data_ptr, tensors), *strides, rows, *tiles)
        workspace = self._room(rows, threads)
        models, batches = ctypes.byref(self._described), ctypes.byref(described)
        self._step(address(logits), models, batches, address(workspace), threads)
        return logits

    def _room(self, rows: int, threads: int) -> Tensor:
        """Workspace for a step, kept for the next one."""
        floats = self._floats(ctypes.byref(self._described), rows, threads)
        if len(self._workspace) < floats:
            self._workspace = torch.empty(floats)
        return self._workspace
