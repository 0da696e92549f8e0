"""Nothing that comes over a network or a pipe, and no checkpoint, is unpickled or run as code.

Files of every package are read as syntax trees, so a new file is held to it too. What multiprocessing itself
pickles is the arguments with which a process starts its own child: they come from the parent.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("services", "kernels", "benchmarks", "evals", "training", "protos", "docs", "examples", "scripts")
MODULES = {
    "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "jsonpickle",
    "torch.distributed.rpc", "concurrent.futures.process", "multiprocessing.managers",
    "multiprocessing.pool", "multiprocessing.queues", "torch.multiprocessing",
}  # fmt: skip
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    # Collectives of torch.distributed that pickle.
    "broadcast_object_list", "all_gather_object", "gather_object", "scatter_object_list", "send_object_list",
    "recv_object_list",
    # What sends by pickle between processes.
    "ProcessPoolExecutor", "Manager", "JoinableQueue", "unsafe_load", "full_load",
}  # fmt: skip
ALLOWED: set[tuple[str, str]] = set()
"""(file, finding) pairs that are right for a reason."""


def findings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what is banned) of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if _is_banned(alias.name))
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            yield from ((node.lineno, name) for name in names if _is_banned(name))
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in CALLS)
        elif isinstance(node, ast.Name) and node.id in BUILTINS and isinstance(node.ctx, ast.Load):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and node.attr in CALLS:
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and (what := _banned_call(node)):
            yield node.lineno, what


def _is_banned(module: str) -> bool:
    return any(module == banned or module.startswith(f"{banned}.") for banned in MODULES)


def _banned_call(call: ast.Call) -> str:
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if name in ("torch.load", "load_state_dict_from_url") and not _is_true(keywords.get("weights_only")):
        return "torch.load without weights_only=True"
    if last == "load" and _is_true(keywords.get("allow_pickle")):
        return "allow_pickle=True"
    if last == "recv" and not call.args and not call.keywords:
        return "Connection.recv, which unpickles"
    if last in ("Pool", "Queue", "SimpleQueue") and ("multiprocessing" in name or "context" in name):
        return f"multiprocessing's {last}, which pickles"
    if name == "yaml.load":
        return "yaml.load"
    return ""


def _is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def test_no_package_unpickles_or_evaluates():
    files = [path for package in PACKAGES for path in sorted((REPOSITORY / package).rglob("*.py"))]
    assert len(files) > 400
    found = [
        (str(path.relative_to(REPOSITORY)), line, what)
        for path in files
        for line, what in findings(ast.parse(path.read_bytes()))
    ]
    assert [each for each in found if (each[0], each[2]) not in ALLOWED] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import os, dill as d",
        "from pickle import loads",
        "from torch import multiprocessing",
        "import torch.distributed.rpc",
        "from multiprocessing.pool import Pool",
        "import marshal",
        "eval(text)",
        "run = exec",
        "__import__('pickle')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, allow_pickle=True)",
        "distributed.broadcast_object_list(values)",
        "from torch.distributed import all_gather_object",
        "pipe.recv()",
        "self._pipe.recv()",
        "multiprocessing.Queue()",
        "get_context('spawn').Pool(2)",
        "from concurrent.futures import ProcessPoolExecutor",
        "yaml.load(text)",
    ],
)
def test_what_is_banned_is_found(text):
    assert list(findings(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        "model.eval()",
        "re.compile(pattern)",
        "torch.load(path, weights_only=True)",
        "sock.recv(4096)",
        "pipe.recv_bytes()",
        "queue.SimpleQueue()",
        "safetensors.torch.load(data)",
        "json.loads(text)",
    ],
)
def test_what_is_harmless_is_not(text):
    assert not list(findings(ast.parse(text)))
