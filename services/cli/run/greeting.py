"""The text printed when the suite is ready."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from services.cli.run.plan import WORKERS, SuitePlan
from services.common.rpc.tls.bundle import CA
from services.engine.native.sources import COMPILERS, find_compiler, has_prebuilt

_KEYLESS = """\
Warning: other machines reach REST and gRPC, and nobody needs an API key. `perigee keys create` makes one,
--gateway.api-keys FILE asks for it.

"""
_DEFAULT_DOOR = "127.0.0.1:50050"


def greeting(plan: SuitePlan, run_dir: Path) -> str:
    """Returns the addresses and three commands to copy."""
    scheme = "https" if plan.public_tls_dir else "http"
    ca = f"{plan.public_tls_dir}/{CA}" if plan.public_tls_dir else ""
    url = f"{scheme}://{plan.rest_address}/v1"
    python = _shown(sys.executable)
    perigee = _shown(os.path.join(os.path.dirname(sys.executable), "perigee"))
    address = "" if plan.grpc_address == _DEFAULT_DOOR else f" --address {plan.grpc_address}"
    messages = '[{"role": "user", "content": "Hello"}]'
    body = f'{{"model": "{plan.model_name}", "max_tokens": 64, "messages": {messages}}}'
    slow = f"\n  note      {reason}" if (reason := _why_slow(plan)) else ""
    return f"""
Perigee is ready and serves {plan.model_name}.

  page      {scheme}://{plan.rest_address}/
  REST      {url}
  gRPC      {plan.grpc_address}
  operator  {plan.operator_address}
  logs      {run_dir}/{slow}

From a second terminal:

  {perigee} chat "Hello"{address}{f" --ca {ca}" if ca else ""}

  curl {f"--cacert {ca} " if ca else ""}{url}/chat/completions -H 'Content-Type: application/json' -d '{body}'

  {f"SSL_CERT_FILE={ca} " if ca else ""}{python} -c '{_program(url, plan.model_name, messages)}'

{_KEYLESS if plan.keyless else ""}Ctrl-C stops everything.
"""


def _why_slow(plan: SuitePlan) -> str | None:
    """Returns why workers on CPUs compute without compiled loops: there is no C compiler. None otherwise."""
    on_cpus = any(child.role in WORKERS and child.device == "cpu" for child in plan.children)
    if not on_cpus or has_prebuilt() or find_compiler():
        return None
    names = f"{', '.join(COMPILERS[:-1])} or {COMPILERS[-1]}"
    return f"there is no C compiler ({names}): without one, answers are ten times slower"


def _program(url: str, model: str, messages: str) -> str:
    client = f'OpenAI(base_url="{url}", api_key="none")'
    call = f'{client}.chat.completions.create(model="{model}", max_tokens=64, messages={messages})'
    return f"from openai import OpenAI; print({call}.choices[0].message)"


def _shown(program: str) -> str:
    """Returns the path relative to the working directory if the program lies below it."""
    relative = os.path.relpath(program)
    return program if relative.startswith("..") else relative
