"""Refuses calls of rpcs that are not for their caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from services.common.errors import PermissionDenied
from services.common.rpc.callers import CALLERS, Caller
from services.common.rpc.interceptors import Interceptor, behaviour_of, with_behaviour
from services.common.rpc.tls.trust_domain import ROLES, TrustDomain

if TYPE_CHECKING:
    from services.common.rpc.interceptors import Context, Handler
    from services.common.rpc.role import Role

log = structlog.get_logger()

_SPIFFE_ID = "peer_spiffe_id"


class PeerAuthorizer(Interceptor):
    """For a server with mTLS: looks up the role that the caller's certificate gives it, in CALLERS."""

    def __init__(self, trust_domain: TrustDomain) -> None:
        self._trust_domain = trust_domain

    def around(self, handler: Handler, details: grpc.HandlerCallDetails) -> Handler:
        """See Interceptor."""
        method = details.method
        allowed = CALLERS.get(method, frozenset())

        def check(context: Context) -> None:
            uri = _spiffe_id(context)
            if self._trust_domain.role_of(uri) not in allowed:
                log.warning("call refused", method=method, caller=uri or "no SPIFFE ID")
                raise _denied(method, uri or "a caller without a SPIFFE ID", allowed)

        return _behind(check, handler)


class ClientAuthorizer(Interceptor):
    """For a server that clients reach: every caller is a client, whatever certificate it shows."""

    def around(self, handler: Handler, details: grpc.HandlerCallDetails) -> Handler:
        """See Interceptor."""
        method = details.method
        allowed = CALLERS.get(method, frozenset())
        if "client" in allowed:
            return handler

        def check(context: Context) -> None:
            raise _denied(method, "a client", allowed)

        return _behind(check, handler)


def certified_role(context: Context) -> Role | None:
    """The role in the certificate of a caller that PeerAuthorizer let through; None on plain TCP.

    It does not look at the trust domain, for PeerAuthorizer has.
    """
    last = _spiffe_id(context).rpartition("/")[2]
    return next((role for role in ROLES if role == last), None)


def _spiffe_id(context: Context) -> str:
    """The only SPIFFE ID in the caller's certificate; empty if it has none or several, or shows none."""
    uris = list((context.auth_context() or {}).get(_SPIFFE_ID, ()))
    return uris[0].decode(errors="replace") if len(uris) == 1 else ""


def _denied(method: str, caller: str, allowed: frozenset[Caller]) -> PermissionDenied:
    return PermissionDenied(f"{method} is not for {caller}, but for {', '.join(sorted(allowed)) or 'nobody'}")


def _behind(check: Callable[[Context], None], handler: Handler) -> Handler:
    """Returns the handler with `check` before it. Raises TypeError for a synchronous one."""
    behaviour = behaviour_of(handler)
    if behaviour is None:
        raise TypeError(f"{handler} has no coroutine function: nothing can check who calls it")

    async def checked(request: Any, context: Context) -> Any:
        check(context)
        return await behaviour(request, context)

    return with_behaviour(handler, checked)
