"""The text printed when the suite is ready."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from services.cli.run.plan import WORKERS, SuitePlan
from services.common.rpc.tls.bundle import CA
from services.engine.native.sources import COMPILERS, NO_LOOPS, find_compiler, has_prebuilt

_KEYLESS = """\
Warning: other machines reach REST and gRPC, and nobody needs an API key. `perigee keys create` makes one,
--gateway.api-keys FILE asks for it.

"""
_DEFAULT_DOOR = "127.0.0.1:50050"
# What a worker logs until it serves is less.
_MOST_READ = 1 << 20


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
    slow = f"\n  note      {reason}" if (reason := _why_slow(plan, run_dir)) else ""
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


def _why_slow(plan: SuitePlan, run_dir: Path) -> str | None:
    """Returns why workers on CPUs compute without compiled loops; None if they have them."""
    on_cpus = [child.role for child in plan.children if child.role in WORKERS and child.device == "cpu"]
    if not on_cpus or has_prebuilt():
        return None
    if not find_compiler():
        names = f"{', '.join(COMPILERS[:-1])} or {COMPILERS[-1]}"
        return f"there is no C compiler ({names}): without one, answers are ten times slower"
    # One may be there without what it needs, such as the headers of the C library.
    failed = next((role for role in on_cpus if _has_no_loops(run_dir / f"{role}.log")), None)
    if failed is None:
        return None
    return f"the C compiler fails, so answers are ten times slower; perigee logs {failed} has its words"


def _has_no_loops(log: Path) -> bool:
    """Whether a worker has logged that it could not compile them."""
    try:
        with log.open("rb") as file:
            return NO_LOOPS.encode() in file.read(_MOST_READ)
    except OSError:
        return False


def _program(url: str, model: str, messages: str) -> str:
    client = f'OpenAI(base_url="{url}", api_key="none")'
    call = f'{client}.chat.completions.create(model="{model}", max_tokens=64, messages={messages})'
    return f"from openai import OpenAI; print({call}.choices[0].message)"


def _shown(program: str) -> str:
    """Returns the path relative to the working directory if the program lies below it."""
    relative = os.path.relpath(program)
    return program if relative.startswith("..") else relative
