"""A vision worker as a process of its own: `python -m tests.vision.vision_process SETTINGS_AS_JSON`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

from services.common.logs import configure_logs
from services.common.rpc.endpoints import Endpoints
from services.common.settings import resolve
from services.vision.config import VisionConfig
from services.vision.main import serve


async def main() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await serve(resolve(VisionConfig, json.loads(sys.argv[1]), {}), Endpoints("vision"), stop)


if __name__ == "__main__":
    configure_logs()
    asyncio.run(main())
