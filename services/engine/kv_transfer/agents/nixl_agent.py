"""The real agent: NIXL over UCX."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.common.errors import ConfigError
from services.engine.kv_transfer.agents import transport_probe
from services.engine.kv_transfer.agents.agent import AgentError, Handle, PeerGone, TransferState
from services.engine.kv_transfer.agents.region import Region
from services.engine.kv_transfer.agents.ucx_log import UcxLog

_GONE = ("nixlRemoteDisconnectError", "nixlNotFoundError", "nixlCancelledError")


@dataclass(eq=False)
class _NixlHandle:
    """A NIXL object that dies with the agent."""

    inner: Any


class NixlAgent:
    """Agent over NIXL's UCX backend, without a progress thread: its owner must call `poll`.

    UCX reads its own UCX_* variables from the environment when the first agent of a process is opened.
    """

    def __init__(self, name: str, backend_options: Mapping[str, str] | None = None) -> None:
        """`name` is unique per process start. `backend_options` go to the UCX backend unchanged, e.g.
        {"num_workers": "1", "ucx_devices": "mlx5_0"}.
        """
        self._name = name
        self._options = dict(backend_options or {})
        self._handles: set[_NixlHandle] = set()
        self._log = UcxLog()
        self._agent: Any = None
        self._gone: tuple[type[Exception], ...] = ()
        self._errors: tuple[type[Exception], ...] = ()

    @property
    def name(self) -> str:
        """See Agent."""
        return self._name

    @property
    def live_handles(self) -> int:
        """Registrations, lists and transfers not released yet."""
        return len(self._handles)

    def open(self) -> None:
        """See Agent. Raises ConfigError if the backend rejects its options."""
        # NIXL logs to stdout at INFO unless this is set before it is loaded.
        os.environ.setdefault("NIXL_LOG_LEVEL", "WARN")
        with self._log.captured():
            api = _api()
            bindings = vars(api.nixlBind)
            self._gone = tuple(bindings[name] for name in _GONE if name in bindings)
            named = (value for name, value in bindings.items() if name.startswith("nixl"))
            self._errors = tuple(v for v in named if isinstance(v, type) and issubclass(v, Exception))
            config = api.nixl_agent_config(
                enable_prog_thread=False,
                backends=[],
                sync_mode=api.nixl_thread_sync_t.NIXL_THREAD_SYNC_STRICT,
            )
            refusals: tuple[type[Exception], ...] = (RuntimeError, *self._errors)
            try:
                self._agent = api.nixl_agent(self._name, config)
                self._agent.create_backend("UCX", self._options)
            except refusals as error:
                raise ConfigError(
                    f"NIXL cannot start its UCX backend with {self._options}: {error}"
                ) from error

    def register(self, region: Region) -> Handle:
        """See Agent."""
        with self._translated("register memory"):
            memory = [(region.base_address, region.total_bytes, region.device_id, "")]
            return self._keep(self._agent.register_memory(memory, region.memory_type))

    def deregister(self, token: Handle) -> None:
        """See Agent."""
        with self._translated("deregister memory"):
            self._agent.deregister_memory(self._drop(token))

    def metadata(self) -> bytes:
        """See Agent."""
        with self._translated("describe itself"):
            return bytes(self._agent.get_agent_metadata())

    def add_peer(self, metadata: bytes) -> str:
        """See Agent."""
        with self._translated("add a peer"):
            name: bytes | str = self._agent.add_remote_agent(metadata)
        return name.decode() if isinstance(name, bytes) else name

    def remove_peer(self, name: str) -> None:
        """See Agent."""
        try:
            self._agent.remove_remote_agent(name)
        except self._gone:
            return  # NIXL forgets a peer by itself when its connection breaks
        except self._errors as error:
            raise AgentError(f"NIXL cannot remove {name}: {error}") from error

    def prepare_local(self, region: Region) -> Handle:
        """See Agent."""
        return self._prepare("NIXL_INIT_AGENT", region)

    def prepare_remote(self, peer: str, region: Region) -> Handle:
        """See Agent."""
        return self._prepare(peer, region)

    def release_list(self, entries: Handle) -> None:
        """See Agent."""
        with self._translated("release a list"):
            self._agent.release_dlist_handle(self._drop(entries))

    def make_read(
        self,
        local: Handle,
        local_entries: npt.NDArray[np.int32],
        remote: Handle,
        remote_entries: npt.NDArray[np.int32],
    ) -> Handle:
        """See Agent."""
        with self._translated("prepare a read"):
            return self._keep(
                self._agent.make_prepped_xfer(
                    "READ", _inner(local), local_entries, _inner(remote), remote_entries
                )
            )

    def post(self, transfer: Handle) -> TransferState:
        """See Agent."""
        with self._translated("post a read"):
            return _state(self._agent.transfer(_inner(transfer)))

    def check(self, transfer: Handle) -> TransferState:
        """See Agent."""
        with self._translated("complete a read"):
            return _state(self._agent.check_xfer_state(_inner(transfer)))

    def release(self, transfer: Handle) -> bool:
        """See Agent."""
        try:
            self._agent.release_xfer_handle(_inner(transfer))
        except self._errors:
            return False
        self._drop(transfer)
        return True

    def poll(self) -> None:
        """See Agent."""
        with self._translated("poll"):
            self._agent.get_new_notifs()

    def transport(self, peer: str) -> tuple[str, bool]:
        """See Agent."""
        reported = transport_probe.from_tables(self._log.tables(), self._name, peer == self._name)
        return reported or transport_probe.inferred(os.environ)

    def rdma_obstacle(self, memory_type: str) -> str | None:
        """See Agent."""
        return transport_probe.rdma_obstacle(os.environ, memory_type)

    def close(self) -> None:
        """See Agent."""
        if self._agent is None:
            return
        # The native agent lives until the last handle releases it.
        for handle in self._handles:
            handle.inner = None
        self._handles.clear()
        self._agent = None
        self._log.close()

    def _prepare(self, agent: str, region: Region) -> Handle:
        # One row (address, length, device, stride, count) for all entries; uint64, because pools exceed 4
        # GiB.
        row = (
            region.base_address,
            region.entry_bytes,
            region.device_id,
            region.entry_bytes,
            region.entry_count,
        )
        with self._translated("prepare a list"):
            rows = np.array([row], dtype=np.uint64)
            return self._keep(self._agent.prep_xfer_dlist(agent, rows, region.memory_type))

    def _keep(self, inner: object) -> _NixlHandle:
        if inner is None:
            raise AgentError("NIXL refused without a reason")
        handle = _NixlHandle(inner)
        self._handles.add(handle)
        return handle

    def _drop(self, handle: Handle) -> Any:
        assert isinstance(handle, _NixlHandle)
        self._handles.discard(handle)
        return handle.inner

    @contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        try:
            yield
        except self._gone as error:
            raise PeerGone(f"NIXL cannot {action}: {error}") from error
        except self._errors as error:
            raise AgentError(f"NIXL cannot {action}: {error}") from error


def _inner(handle: Handle) -> Any:
    assert isinstance(handle, _NixlHandle)
    return handle.inner


def _state(word: str) -> TransferState:
    if word == "ERR":
        raise AgentError("NIXL reports an error without a cause")
    return TransferState.DONE if word == "DONE" else TransferState.PROCESSING


def _api() -> Any:
    """NIXL's Python API, from the package that chooses a backend by torch's CUDA, or where that is not
    installed, from the backend that it takes without CUDA.
    """
    try:
        return importlib.import_module("nixl._api")
    except ModuleNotFoundError as error:
        if error.name != "nixl":
            raise
        return importlib.import_module("nixl_cu13._api")
