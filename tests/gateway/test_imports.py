"""What the gateway process loads."""

import subprocess
import sys


def test_the_gateway_loads_no_tensor_library_and_no_engine():
    program = (
        "import sys, services.gateway.main\n"
        "heavy = ('torch', 'numpy', 'nixl', 'nixl_cu12', 'services.engine', 'transformers')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
