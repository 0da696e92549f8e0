"""A stranger's template runs with bounded time, memory and output, and reaches nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from services.cli.template_check import sandbox, sandbox_process
from services.cli.template_check.sandbox import Rendering, render_in_sandbox
from services.common.errors import CheckpointError, ConfigError

ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


def rendered(template, **variables):
    [found] = render_in_sandbox(template, [variables])
    return found


def test_a_template_is_rendered_for_each_job():
    jobs = [{"a": 1}, {"a": "<é>"}, {}]
    assert render_in_sandbox("{{ a }}", jobs) == [Rendering("1"), Rendering("<é>"), Rendering("")]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ {'é': ['<', 2.0]} | tojson }}", '{"é": ["<", 2.0]}'),
        ("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% generation %}a{% endgeneration %}b", "ab"),
        ("  {% if true %}\nx{% endif %}", "x"),
    ],
)
def test_templates_find_what_published_ones_use(template, text):
    assert rendered(template) == Rendering(text)


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{ raise_exception('no roles') }}", "TemplateError: no roles"),
        ("{% if %}", "TemplateSyntaxError: "),
        ("{{ x.y.z }}", "UndefinedError: "),
        ("{{ ''.__class__.__mro__ }}", "SecurityError: "),
        ("{{ x.append(1) }}", "SecurityError: "),
        ("{% include '/etc/passwd' %}", "TypeError: "),
        ("{{ 'x' * (9 * 1000 * 1000 * 1000) }}", "MemoryError"),
        ("{% for i in range(99999) %}{{ 'x' * 999 }}{% endfor %}", "all texts together are longer than"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError: "),
    ],
)
def test_what_a_template_must_not_do_is_its_error(template, error):
    found = rendered(template, x=[1])
    assert found.text == ""
    assert found.error.startswith(error)


def test_a_failing_job_does_not_spoil_the_next_one():
    assert [each.text for each in render_in_sandbox("{{ 1 // a }}", [{"a": 0}, {"a": 1}])] == ["", "1"]


def test_a_template_that_does_not_end_is_ended():
    with pytest.raises(CheckpointError, match=r"did not end within 1\.5 s"):
        render_in_sandbox(ENDLESS, [{}], timeout_s=1.5)


def test_the_kernel_ends_a_template_that_burns_the_processor():
    """Even if nobody waits for the process any more. With less time than usual, for a quick test."""
    program = f"import {sandbox_process.__name__} as process; process.CPU_SECONDS = 1; process.main()"
    given = json.dumps({"template": ENDLESS, "jobs": [{}]})
    done = subprocess.run([sys.executable, "-c", program], input=given, text=True, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert sandbox_process.CPU_SECONDS < sandbox._TIMEOUT_S


def test_a_process_that_dies_is_reported(monkeypatch):
    monkeypatch.setattr(sandbox, "_PROGRAM", "no.such.module")
    with pytest.raises(CheckpointError, match=r"ended with status 1: .*no"):
        render_in_sandbox("x", [{}])


def test_without_jinja2_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigError, match=r"perigee\[template\]"):
        render_in_sandbox("x", [{}])
