"""Chat templates in the manners of the field, each written for these tests."""

from __future__ import annotations

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKED = """
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' }}
        {%- generation %}
        {{- message.content + '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}"""
BRACKETS = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set opening = messages[0]['content'] + '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set opening = '' %}{% set rest = messages %}{% endif %}"
    "{% for message in rest %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate, not: ' + message['content']) }}{% endif %}"
    "{% if message['role'] == 'user' %}[INST] {{ (opening if loop.first else '') + message['content'] | trim }} [/INST]"
    "{% else %} {{ message['content'] | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
THINKING = """{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.role == 'assistant' and loop.index0 > ns.last %}
        {{- '<think>\n' + (message.reasoning_content or '') + '\n</think>\n\n' }}
    {%- endif %}
    {{- message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""
DATED = (
    "{{ 'Today is ' + strftime_now('%Y') + '.' }}\n{% for message in messages if message.content %}"
    "    {{ message | tojson(indent=1) }}{% if loop.index > 6 %}{% break %}{% endif %}\n    {% endfor %}"
    "{% if tools is none and documents is none %}{{ {'a': 'ü<&>'} | tojson }}{% endif %}"
    "{% if add_generation_prompt %}>{% endif %}"
)
ALL = {"chatml": CHATML, "marked": MARKED, "brackets": BRACKETS, "thinking": THINKING, "dated": DATED}
