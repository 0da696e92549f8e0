"""Where triton keeps compiled kernels."""

from __future__ import annotations

import os
import tempfile
from types import SimpleNamespace

import pytest
import structlog
from triton import knobs

from kernels.prebuilt.cache import PrebuiltCache
from services.common.errors import ConfigError
from services.engine.kernel_model import kernel_cache
from services.engine.kernel_model.kernel_cache import open_kernel_cache, reach_driver


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Nothing is set or prebuilt; triton's own place and the temporary directory are the test's."""
    # Set first, so that what the tests change is undone.
    for name in ("TRITON_CACHE_DIR", "TRITON_LIBCUDA_PATH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("TRITON_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(kernel_cache, "DIRECTORY", tmp_path / "prebuilt")
    with knobs.cache.scope(), knobs.compilation.scope():
        yield


def cannot_be_written(monkeypatch):
    monkeypatch.setenv("TRITON_HOME", "/dev/null")


def test_it_is_where_triton_has_it_in_a_home_that_can_be_written(tmp_path):
    open_kernel_cache()
    assert os.environ["TRITON_CACHE_DIR"] == knobs.cache.dir == str(tmp_path / "home/.triton/cache")
    assert knobs.cache.manager_class is None


def test_it_is_in_the_temporary_directory_for_this_user_alone_if_home_cannot_be_written(
    monkeypatch, tmp_path
):
    cannot_be_written(monkeypatch)
    open_kernel_cache()
    chosen = tmp_path / "temporary" / f"perigee-triton-{os.getuid()}"
    assert knobs.cache.dir == str(chosen)
    assert chosen.stat().st_mode & 0o777 == 0o700


def test_a_temporary_directory_of_another_user_is_refused(monkeypatch, tmp_path):
    cannot_be_written(monkeypatch)
    stranger = os.getuid() + 1
    (tmp_path / "temporary" / f"perigee-triton-{stranger}").mkdir(parents=True)
    monkeypatch.setattr(os, "getuid", lambda: stranger)
    with pytest.raises(ConfigError, match=r"TRITON_CACHE_DIR: .* belongs to another user"):
        open_kernel_cache()


def test_a_directory_named_in_the_environment_is_made_and_used(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "chosen" / "deep"))
    open_kernel_cache()
    assert (tmp_path / "chosen" / "deep").is_dir()
    assert knobs.cache.dir == str(tmp_path / "chosen" / "deep")


def test_a_directory_named_in_the_environment_that_cannot_be_made_is_refused(monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", "/dev/null/kernels")
    with pytest.raises(ConfigError, match="TRITON_CACHE_DIR: /dev/null/kernels cannot be made"):
        open_kernel_cache()


def test_kernels_compiled_ahead_are_looked_at_first_and_nothing_is_linked_with_the_driver(tmp_path):
    (tmp_path / "prebuilt").mkdir()
    open_kernel_cache()
    assert knobs.cache.manager_class is PrebuiltCache
    assert os.environ["TRITON_LIBCUDA_PATH"] == str(tmp_path / "prebuilt")


def test_each_compiled_kernel_is_logged_and_one_that_was_found_is_not():
    open_kernel_cache()
    kernel = {"src": SimpleNamespace(name="a_kernel"), "metadata": {}, "metadata_group": {}}
    with structlog.testing.capture_logs() as logs:
        for hit in (True, False):
            knobs.compilation.listener(**kernel, times=SimpleNamespace(total=1_500_000), cache_hit=hit)
    assert logs == [{"event": "compiled a kernel", "kernel": "a_kernel", "seconds": 1.5, "log_level": "info"}]


def test_a_machine_where_triton_cannot_launch_is_refused_before_the_checkpoint_is_read(monkeypatch):
    class Driver:
        @property
        def active(self):
            raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(kernel_cache.triton.runtime, "driver", Driver())
    with pytest.raises(ConfigError, match="device: triton cannot launch kernels: Failed to find C compiler"):
        reach_driver()
