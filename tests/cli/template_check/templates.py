"""Chat templates of our own, which follow the rules of each model profile."""

from __future__ import annotations

_TEMPLATE = r"""
{%- macro written(content) -%}
  {%- if content is string -%}{{ content }}
  {%- elif content is iterable -%}
    {%- for part in content -%}
      {%- if part.type == 'text' -%}{{ part.text }}
      {%- elif part.type in ('image', 'image_url') -%}
        {{ '<|media_begin|>image<|media_content|><|media_pad|><|media_end|>\n' }}
      {%- else -%}{{ '<|kimi_k25_video_placeholder|>\n' }}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- set found = namespace(answer=-1) -%}
{%- for message in messages -%}
  {%- if message.role == 'assistant' and not message.tool_calls -%}
    {%- set found.answer = loop.index0 -%}
  {%- endif -%}
{%- endfor -%}
{%- if KEEPS -%}{%- set found.answer = -1 -%}{%- endif -%}
{%- if tools -%}
  {{- '<|im_system|>tool_declare<|im_middle|>' -}}
  {{- tools_ts_str or (tools | tojson(separators=(',', ':'))) -}}
  {{- '<|im_end|>' -}}
{%- endif -%}
{%- for message in messages -%}
  {{- {'user': '<|im_user|>', 'assistant': '<|im_assistant|>'}.get(message.role, '<|im_system|>') -}}
  {{- (message.name or message.role) ~ '<|im_middle|>' -}}
  {%- if message.role == 'assistant' -%}
    {{- '<think>' -}}
    {%- if THINKS and loop.index0 > found.answer -%}{{ REASONING or '' }}{%- endif -%}
    {{- '</think>' ~ written(message.content) -}}
    {%- if message.tool_calls -%}
      {{- '<|tool_calls_section_begin|>' -}}
      {%- for call in message.tool_calls -%}
        {{- '<|tool_call_begin|>' ~ call.id ~ '<|tool_call_argument_begin|>' -}}
        {%- set given = call.function.arguments -%}
        {{- (given if given is string else given | tojson) ~ '<|tool_call_end|>' -}}
      {%- endfor -%}
      {{- '<|tool_calls_section_end|>' -}}
    {%- endif -%}
  {%- else -%}
    {%- if message.role == 'tool' -%}{{ '## Return of ' ~ message.tool_call_id ~ '\n' }}{%- endif -%}
    {{- written(message.content) -}}
  {%- endif -%}
  {{- '<|im_end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_assistant|>assistant<|im_middle|><think>' -}}
  {%- if not THINKS -%}{{ '</think>' }}{%- endif -%}
{%- endif -%}
"""

_SWITCHED = "(thinking is undefined or thinking is not false)"
_NEW_REASONING = "(message.reasoning if message.reasoning is defined else message.reasoning_content)"


def _template(keeps: str, thinks: str, reasoning: str) -> str:
    text = _TEMPLATE.replace("KEEPS", keeps).replace("THINKS", thinks)
    return text.replace("REASONING", reasoning)


TEMPLATES = {
    "k2.5": _template("false", _SWITCHED, "message.reasoning_content"),
    "k2.6": _template("preserve_thinking", _SWITCHED, _NEW_REASONING),
    "k2.7-code": _template("preserve_thinking | default(true)", "true", _NEW_REASONING),
}
