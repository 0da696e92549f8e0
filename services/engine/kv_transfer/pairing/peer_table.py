"""Manages the peers that can be read: connects, checks, breaks and forgets them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from services.common.errors import Incompatible, Overloaded, PerigeeError, TransferFailed
from services.engine.kv_transfer.agents.agent import Agent, AgentError
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.pool_device import Host, PoolDevice
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.agents.transport_report import TransportReport
from services.engine.kv_transfer.pairing.pair_probe import CONNECT_ROUNDS, PairProbe
from services.engine.kv_transfer.pairing.path_check import PathCheck
from services.engine.kv_transfer.reads.active_read import ActiveRead
from services.engine.kv_transfer.reads.inbox import CheckPath, Connect, Disconnect, reject, resolve
from services.engine.kv_transfer.reads.peer import PeerState, TransferPeer
from services.engine.kv_transfer.reads.probe_buffer import ProbeBuffer
from services.engine.kv_transfer.reads.read_pump import ReadPump
from services.engine.kv_transfer.reads.read_request import ReadStatus

logger = logging.getLogger(__name__)

RENEW_AFTER_S = 1.0
"""Seconds during which reads from a peer that broke fail at once: it is dead more often than not."""


class PeerTable:
    """All peers by agent name. Transfer thread only; `pump` is set before the first command."""

    pump: ReadPump

    def __init__(
        self,
        agent: Agent,
        own: Offer,
        device: PoolDevice,
        objection: Callable[[TransportReport], str],
        *,
        idle_check_s: float,
        check_timeout_s: float,
        clock: Callable[[], float],
    ) -> None:
        """`device`: that of the own pool. `objection` returns why a path is not good enough for this worker,
        "" if it is. A peer unused for `idle_check_s` must answer a probe within `check_timeout_s` before it
        is read again.
        """
        self._agent = agent
        self._own = own
        self._device = device
        self._objection = objection
        self._idle_check_s = idle_check_s
        self._check_timeout_s = check_timeout_s
        self._clock = clock
        self._peers: dict[str, TransferPeer] = {}
        self._checks: dict[str, PathCheck] = {}

    def awaited(self) -> bool:
        """Whether any caller waits for a connection or a check."""
        return bool(self._checks) or any(peer.connects for peer in self._peers.values())

    def connect(self, command: Connect) -> None:
        """Answers at once for a ready peer; reconnects a broken one once its flights have settled.

        Refuses an offer under the name of another worker, or of this one, with Incompatible: reads would go
        to that worker's memory.
        """
        peer = self._peers.get(command.offer.agent_name)
        if command.offer.agent_name == self._own.agent_name:
            taken = command.offer is not self._own
        else:
            taken = peer is not None and peer.offer != command.offer
        if taken:
            name = command.offer.agent_name
            reject(command.future, Incompatible(f"the offer is not the one under which {name} is known"))
            return
        if peer is None:
            peer = TransferPeer(command.offer, self._new_landing(command.offer), connects=[command])
            self._peers[peer.name] = peer
            self._open(peer, command.deadline)
        elif peer.state is PeerState.READY and peer.report is not None:
            resolve(command.future, peer.report)
        else:
            peer.connects.append(command)
            if peer.state is PeerState.BROKEN:
                peer.state = PeerState.RENEWING

    def disconnect(self, command: Disconnect) -> None:
        """Fails waiting reads and calls; forgets the peer when its last flight has settled."""
        peer = self._peers.get(command.agent_name)
        if peer is None:
            resolve(command.future, None)
            return
        self._refuse_all(peer, TransferFailed(f"{peer.name} was disconnected"))
        peer.state = PeerState.REMOVING
        peer.disconnects.append(command)

    def check(self, command: CheckPath) -> None:
        """Reads a peer's probe as soon as the peer is ready; reconnects a broken one. At most one check per
        peer at a time, because all use the same landing buffer.
        """
        peer = self._peers.get(command.agent_name)
        if peer is None or peer.state is PeerState.REMOVING:
            reject(command.future, TransferFailed(f"{command.agent_name} is not connected"))
        elif self._is_checked(peer):
            reject(command.future, Overloaded(f"a check of {peer.name} has not ended yet: ask again later"))
        else:
            self._checks[peer.name] = PathCheck(command, self._check_timeout_s, self._clock)
            if peer.state is PeerState.BROKEN:
                peer.state = PeerState.RENEWING

    def route(self, read: ActiveRead) -> None:
        """Posts a read, queues it until its peer is ready, or ends it."""
        peer = self._peers.get(read.request.peer)
        if peer is None:
            read.end(ReadStatus.FAILED, f"{read.request.peer} is not connected")
        elif peer.state is PeerState.BROKEN and self._clock() - peer.broken_at >= RENEW_AFTER_S:
            peer.waiting.append(read)
            peer.state = PeerState.RENEWING
        elif peer.state in (PeerState.BROKEN, PeerState.REMOVING):
            read.end(ReadStatus.FAILED, f"{peer.name} cannot be read: {peer.reason}")
        elif peer.state is not PeerState.READY:
            peer.waiting.append(read)
        elif self._clock() - peer.last_used > self._idle_check_s and not self._is_busy(peer):
            peer.state = PeerState.CHECKING
            peer.waiting.append(read)
            self._probe(peer, self._clock() + self._check_timeout_s, rounds=1)
        else:
            self.pump.post(read, peer)

    def broken(self, peer: TransferPeer, reason: str) -> None:
        """Marks a peer whose connection failed: nothing more is posted to it, but its flights still
        settle.
        """
        if peer.state in (PeerState.BROKEN, PeerState.RENEWING, PeerState.REMOVING):
            return
        peer.state = PeerState.BROKEN
        peer.broken_at = self._clock()
        self._refuse_all(peer, TransferFailed(reason))

    def advance(self, now: float) -> None:
        """Enforces the deadlines of waiting reads and calls, advances checks, and handles peers whose last
        flight has settled. Such a peer is given up if it still waits for its probe, because no result can
        come.
        """
        for name, check in list(self._checks.items()):
            if check.over:
                del self._checks[name]
            else:
                peer = self._peers[name]
                if (read := check.next_round(peer, now)) is not None:
                    self.pump.post(read, peer)
        for peer in list(self._peers.values()):
            for read in [read for read in peer.waiting if read.is_late(now)]:
                peer.waiting.remove(read)
                read.end(ReadStatus.LATE, f"{peer.name} was not ready before the deadline")
            for command in [command for command in peer.connects if now >= command.deadline]:
                peer.connects.remove(command)
                why = "its last transfers have not ended" if peer.flights else peer.state.value
                reject(command.future, TransferFailed(f"{peer.name} was not ready in time: {why}"))
            if peer.flights:
                continue
            if peer.state in (PeerState.CONNECTING, PeerState.CHECKING):
                self._give_up(peer, TransferFailed(f"{peer.name} cannot be read: its probe gave no result"))
            elif peer.state is PeerState.REMOVING:
                self._forget(peer)
            elif peer.state is PeerState.RENEWING:
                self._renew(peer)

    def refuse_everything(self, reason: str) -> None:
        """Fails everything that waits, because the thread closes."""
        for peer in self._peers.values():
            self._refuse_all(peer, TransferFailed(reason))
            for command in peer.disconnects:
                resolve(command.future, None)
            peer.disconnects.clear()

    def _is_busy(self, peer: TransferPeer) -> bool:
        """Whether something is being read from the peer: a probe would only delay it."""
        return bool(peer.flights) or self._is_checked(peer)

    def _is_checked(self, peer: TransferPeer) -> bool:
        check = self._checks.get(peer.name)
        return check is not None and not check.over

    def _open(self, peer: TransferPeer, deadline: float) -> None:
        try:
            self._check_layout(peer.offer)
            self._prepare(peer)
        except PerigeeError as error:
            self._give_up(peer, error)
        except Exception as error:  # barrier: a bad offer must not fail reads from other peers
            if not isinstance(error, AgentError):
                logger.exception("%s cannot be added", peer.name)
            self._give_up(peer, TransferFailed(f"{peer.name} cannot be added: {error}"))
        else:
            self._probe(peer, deadline, CONNECT_ROUNDS)

    def _new_landing(self, offer: Offer) -> ProbeBuffer:
        """Memory to read a peer's probe into: of the host, if all that is read from this peer lands there, as
        embeddings do. From a GPU that is another path than to the memory of one.
        """
        kinds = [region.kind for region in offer.regions if region.kind is not RegionKind.PROBE]
        types = {own.memory_type for own in map(self._own.region, kinds) if own is not None}
        return ProbeBuffer(Host() if types == {Host.memory_type} else self._device)

    def _check_layout(self, offer: Offer) -> None:
        if offer.region(RegionKind.PROBE) is None:
            raise Incompatible(f"{offer.agent_name} offers no probe")
        for theirs in offer.regions:
            ours = self._own.region(theirs.kind)
            if ours is not None and ours.entry_bytes != theirs.entry_bytes:
                raise Incompatible(
                    f"{offer.agent_name} offers {theirs.kind.value} entries of {theirs.entry_bytes} bytes; "
                    f"this worker's have {ours.entry_bytes}"
                )

    def _prepare(self, peer: TransferPeer) -> None:
        if peer.name != self._own.agent_name:
            name = self._agent.add_peer(peer.offer.agent_metadata)
            if name != peer.name:
                self._agent.remove_peer(name)
                raise Incompatible(f"the offer of {peer.name} carries the metadata of {name}")
        for region in peer.offer.regions:
            peer.lists[region.kind] = self._agent.prepare_remote(peer.name, region)
        peer.landing_token = self._agent.register(peer.landing.region)
        peer.landing_list = self._agent.prepare_local(peer.landing.region)

    def _probe(self, peer: TransferPeer, deadline: float, rounds: int) -> None:
        PairProbe(
            peer.offer,
            deadline,
            rounds,
            post=lambda read: self.pump.post(read, peer),
            on_end=lambda speed, reason: self._probed(peer, speed, reason),
            clock=self._clock,
        ).start()

    def _probed(self, peer: TransferPeer, speed: float, reason: str) -> None:
        if peer.state not in (PeerState.CONNECTING, PeerState.CHECKING):
            return
        if reason:
            self._give_up(peer, TransferFailed(f"{peer.name} cannot be read: {reason}"))
            return
        if peer.report is None:
            transport, rdma = self._agent.transport(peer.name)
            peer.report = TransportReport(transport, speed, rdma)
            objection = "" if peer.name == self._own.agent_name else self._objection(peer.report)
            if objection:
                self._give_up(peer, Incompatible(f"{peer.name}: {objection}"))
                return
        peer.state = PeerState.READY
        peer.established = True
        peer.last_used = self._clock()
        for command in peer.connects:
            resolve(command.future, peer.report)
        peer.connects.clear()
        while peer.waiting and peer.state is PeerState.READY:
            self.pump.post(peer.waiting.popleft(), peer)

    def _give_up(self, peer: TransferPeer, error: PerigeeError) -> None:
        if peer.established:
            self.broken(peer, error.message)
            return
        peer.state = PeerState.REMOVING
        self._refuse_all(peer, error)

    def _refuse_all(self, peer: TransferPeer, error: PerigeeError) -> None:
        peer.reason = error.message
        while peer.waiting:
            peer.waiting.popleft().end(ReadStatus.FAILED, error.message)
        for command in peer.connects:
            reject(command.future, error)
        peer.connects.clear()
        if peer.name in self._checks:
            self._checks[peer.name].fail(error)

    def _renew(self, peer: TransferPeer) -> None:
        self._release(peer)
        landing = self._new_landing(peer.offer)
        fresh = TransferPeer(
            peer.offer, landing, established=True, waiting=peer.waiting, connects=peer.connects
        )
        self._peers[peer.name] = fresh
        self._open(fresh, self._clock() + self._check_timeout_s)

    def _forget(self, peer: TransferPeer) -> None:
        self._release(peer)
        del self._peers[peer.name]
        for command in peer.disconnects:
            resolve(command.future, None)
        for connect in peer.connects:
            self.connect(connect)

    def _release(self, peer: TransferPeer) -> None:
        lists = [entries for entries in (*peer.lists.values(), peer.landing_list) if entries is not None]
        steps = [partial(self._agent.release_list, entries) for entries in lists]
        if peer.landing_token is not None:
            steps.append(partial(self._agent.deregister, peer.landing_token))
        if peer.name != self._own.agent_name:
            steps.append(partial(self._agent.remove_peer, peer.name))
        for step in steps:
            try:
                step()
            except Exception:  # barrier: one failed release must not prevent the others
                logger.exception("resources of %s cannot be released", peer.name)
