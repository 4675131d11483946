"""``verifier serve``."""

from __future__ import annotations

import gc
import os
import sys
from typing import Annotated

import typer

from verifier.cli import context
from verifier.notify import ServiceNotifier
from verifier.sources import version
from verifier.telemetry import configure_logging, logger

# The wiring behind a command (store, HTTP, policy engine) is imported inside it: the other commands
# must not pay for it.
# ruff: noqa: PLC0415


def serve(
    *,
    log_json: Annotated[
        bool, typer.Option("--log-json/--log-text", help="Log lines as JSON.")
    ] = not sys.stderr.isatty(),
) -> None:
    """Run the verifier until SIGTERM; requests in progress are finished."""
    from verifier.api.server import take_signals
    from verifier.main import Verifier
    from verifier.store.migrate import migrate

    configure_logging(as_json=log_json)
    log = logger("serve")
    settings = context.settings()
    migrate(settings.store.url)
    verifier = Verifier(settings)
    server = verifier.server()
    take_signals()
    # The deciding and writing threads need the interpreter often and briefly; the default of 5 ms
    # would make each of them wait that long for the event loop.
    sys.setswitchinterval(0.001)
    # What was imported and wired lives as long as the process. A full collection, which long logs
    # bring about, need not go through it each time: that takes some 20 ms.
    gc.collect()
    gc.freeze()
    notifier = ServiceNotifier(os.environ)
    host, port = server.address

    def ready() -> None:
        log.info("verifier_ready", host=host, port=port, version=version())
        notifier.status(f"serving on {host}:{port}")
        notifier.ready()

    verifier.start()
    notifier.watch(verifier.healthy)
    try:
        server.serve(ready)
    finally:
        notifier.stopping()
        verifier.stop()
        log.info("verifier_stopped")
