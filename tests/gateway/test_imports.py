"""What the gateway process loads."""

import re
import subprocess
import sys


def test_the_gateway_loads_no_tensor_library_no_engine_and_nothing_that_runs_templates():
    program = (
        "import sys, services.gateway.main\n"
        "heavy = ('torch', 'numpy', 'nixl', 'nixl_cu12', 'services.engine', 'transformers', 'jinja2')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_what_a_decode_worker_sends_is_a_message_up_to_its_session_alone(repository):
    gateway = repository / "services" / "gateway"
    files = {str(path.relative_to(gateway)): path.read_text() for path in gateway.rglob("*.py")}
    received = re.compile(r"decode_pb2\.(SequenceDelta|SessionResponse|TokenColumns|RequestStats)")
    naming = {path for path, text in files.items() if received.search(text)}
    workers = {"remote_error", "session", "session_reader", "stream/token_delta"}
    assert naming <= {f"workers/{name}.py" for name in workers}
