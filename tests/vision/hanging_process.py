"""A vision worker whose model hangs from its N-th run on.

python -m tests.vision.hanging_process SETTINGS_AS_JSON N

The process is gone half a second after that is noticed, not nine.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading

from services.common.logs import configure_logs
from services.engine.model.vision.model import VisionModel
from services.vision import main as vision_main
from tests.vision.vision_process import main

if __name__ == "__main__":
    vision_main.GONE_S = 0.5
    runs = itertools.count(1)
    encode_all = VisionModel.encode_all

    def encode_or_hang(self, media, before_layer):
        if next(runs) >= int(sys.argv[2]):
            threading.Event().wait()
        return encode_all(self, media, before_layer)

    VisionModel.encode_all = encode_or_hang
    configure_logs()
    asyncio.run(main())
