"""The subcommands of `perigee`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from services.cli.roles import ROLES

# Name: the module with `add_arguments`, and the help text. Only the chosen command's module is imported: a
# health check that runs every few seconds must not load the others' dependencies.
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "run": (
            "services.cli.run.command",
            "run gateway, vision, prefill and decode on this machine",
        ),
        "serve": (
            "services.cli.commands.suite.serve",
            "like run, with the flags of SGLang's command lines for this model",
        ),
        "status": ("services.cli.commands.suite.status", "show how the suite on this machine is"),
        "logs": ("services.cli.commands.suite.logs", "show the logs of the suite's services, or follow them"),
        "restart": ("services.cli.commands.suite.restart", "replace services of the suite while it serves"),
        "stop": ("services.cli.commands.suite.stop", "stop the suite on this machine"),
        "chat": (
            "services.cli.commands.chat",
            "ask a running suite a question, or hold a conversation",
        ),
        "bench": (
            "services.cli.bench.command",
            "measure an endpoint under load, and compare measurements",
        ),
        "workers": (
            "services.cli.commands.operator.workers",
            "list the workers a gateway knows, and their states",
        ),
        "transfer-check": (
            "services.cli.commands.operator.transfer_check",
            "check transport, speed and checksums of reads between two workers",
        ),
        "drain": ("services.cli.commands.operator.drain", "take a worker out of rotation"),
        "undrain": ("services.cli.commands.operator.undrain", "put a drained worker back into rotation"),
        "log-level": (
            "services.cli.commands.operator.log_level",
            "change what running services log",
        ),
        "flush": ("services.cli.commands.operator.flush", "drop the workers' cached pages and embeddings"),
        "health": ("services.cli.commands.operator.health", "check whether a server is serving"),
        "checkpoint": (
            "services.cli.commands.checkpoint",
            "check a checkpoint without loading it, or write a random one",
        ),
        "certs": ("services.cli.commands.certs", "make certificates to try mTLS with"),
        "keys": ("services.cli.commands.keys", "make, list and revoke API keys"),
        **{role: ("services.cli.commands.role", f"run one {role} service in this process") for role in ROLES},
        "config": ("services.cli.commands.config", "show each setting's value and where it comes from"),
        "completion": ("services.cli.commands.completion", "print a completion script for your shell"),
        "sbom": (
            "services.cli.commands.sbom",
            "print the packages of this installation and their licences, as CycloneDX",
        ),
        "version": (
            "services.cli.commands.version",
            "print the versions of Perigee and its main dependencies",
        ),
    }
)
