"""What model templates may not do: make large texts, compare for ever, reach Python, take long."""

import itertools
import threading
import time
import tracemalloc
from types import SimpleNamespace

import pytest
from jinja2 import Environment, TemplateError

from chat_worker.text import render_limits, template_traits
from common.errors import InvalidRequest
from tests.unit.chat_worker.test_template import render


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 2000000000 }}",
        "{{ 2000000000 * 'a' }}",
        "{{ [0] * 2000000000 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ '{:999999999d}'.format(1) }}",
        "{{ '{:{w}d}'.format(1, w=999999999) }}",
        "{{ 'a'.ljust(999999999) }}",
        "{{ 'a\t'.expandtabs(tabsize=999999999) }}",
        "{{ 9 ** 999999999 }}",
        "{{ 'a'|center(999999999) }}",
        "{{ ('a' * 1000000).replace('a', 'a' * 1000000) }}",
        "{{ ('a' * 1000000)|replace('a', 'a' * 1000000) }}",
        "{{ ('a' * 1000000).join('b' * 1000000) }}",
        "{% set ns = namespace(x='aa') %}{% for i in range(60) %}"
        "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='aa') %}{% for i in range(60) %}"
        "{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}"
        "{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=3) %}{% for i in range(60) %}"
        "{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{% for i in range(999999999) %}{% endfor %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% set ns = namespace(l=['a']) %}{% for i in range(99) %}"
        "{% set ns.l = ns.l + ns.l %}{{ ns.l.append('a' * 9999) or '' }}{% endfor %}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ strftime_now('%99999999d') }}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{{ {'a': 1}|tojson(indent=999999999) }}",
        "{{ 'a\nb'|indent(999999999) }}",
    ],
)
def test_a_hostile_template_fails_its_request_and_nothing_else(source: str) -> None:
    with pytest.raises((InvalidRequest, TemplateError)):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ '{:999999999d}'.format(1) }}",
        "{{ '{:{w}d}'.format(1, w=999999999) }}",
        "{{ ([0] * 15000000)|length }}",
    ],
)
def test_what_is_large_is_refused_before_it_is_made(source: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest):
            render(source)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "source",
    [
        "{{ § }}",
        "{{ §|string|length }}",
        "{{ §|tojson|length }}",
        "{{ [§|map('list')]|tojson|length }}",
        "{{ §|join|length }}",
        "{{ §|sum(start=[])|length }}",
        "{{ §|upper|length }}",
        "{{ (§ ~ '')|length }}",
        "{{ ('%s' % [§])|length }}",
        "{{ '{}'.format(§)|length }}",
        "{{ ','.join(§) }}",
        "{{ raise_exception(§) }}",
        "{{ dict(a=[§])|string|length }}",
        "{% set y %}{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}{% endset %}",
        "{% set y %}{% for i in range(99999) %}" + "a" * 9999 + "{% endfor %}{% endset %}",
    ],
)
def test_a_list_that_holds_a_large_one_many_times_is_no_large_text(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_traits, "LIMIT_S", 0.1)
    monkeypatch.setattr(render_limits, "MAX_WORK_CHARS", 1 << 20)
    monkeypatch.setattr(render_limits, "MAX_TOTAL_CHARS", 8 << 20)
    shared = "{% set l = range(9999)|list %}{% set m = [l] * 9999 %}"
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match="must not do"):
            render(shared + source.replace("§", "m"))
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


TWINS = "{% set ns = namespace(a=[1], b=[1]) %}" + 64 * (
    "{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}"
)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ns.a == ns.b }}",
        "{{ 1 if 2 < 3 and ns.a <= ns.b else 2 }}",
        "{{ ns.a == ns.b == 1 }}",
        "{{ ns.a in [ns.b] }}",
        "{{ ns.a is eq ns.b }}",
        "{{ [ns.a]|select('in', [ns.b])|list }}",
        "{{ [ns.a].index(ns.b) }}",
        "{{ [ns.a].count(ns.b) }}",
        "{{ [ns.a, ns.b]|sort|length }}",
        "{{ [ns.a, ns.b]|max|length }}",
        "{{ [ns.a, ns.b]|map('list')|sort|length }}",
        "{{ [ns.a, ns.b]|map('list')|max|length }}",
        "{{ [[1, ns.a], [1, ns.b]]|map('list')|groupby(1) }}",
        "{{ [{'k': ns.a}, {'k': ns.b}]|groupby('k')|length }}",
    ],
)
def test_lists_that_would_take_for_ever_to_compare_are_refused(source: str) -> None:
    with pytest.raises(InvalidRequest, match="must not do"):
        render(TWINS + source)


LARGE = (
    "{% set large = 'a' * 9000000 %}{% macro show(a, b='') %}{{ a }}{{ caller() }}{% endmacro %}"
)


@pytest.mark.parametrize(
    "source",
    [
        "{{ § }}",
        "{{ 'x' ~ (§) }}",
        "{{ -((§)|length) }}",
        "{{ (§) is string and (§)[0] in {'k': §}.k }}",
        "{{ 'x' if § else 'y' }}",
        "{{ [1, §] }}",
        "{{ ''.join([§]) }}",
        "{{ 'x'|replace('x', new=§) }}",
        "{{ 'xyz'[(§)|length:] }}",
        "{% if § %}{% endif %}",
        "{% if 0 %}{% elif § %}{% endif %}",
        "{% for c in § %}{% break %}{% endfor %}",
        "{% for c in [1] if § %}{% endfor %}",
        "{% set y = § %}",
        "{% set y %}{{ § }}{% endset %}",
        "{% macro m(p=§) %}{{ p }}{% endmacro %}{{ m() }}",
        "{% call show(1) %}{{ § }}{% endcall %}",
        "{% call show(1, b=§) %}{% endcall %}",
        "{% filter upper %}{{ § }}{% endfilter %}",
        "{% with y = § %}{% endwith %}",
        "{% generation %}{{ § }}{% endgeneration %}",
    ],
)
def test_a_concatenation_is_bounded_wherever_it_stands(source: str) -> None:
    render(LARGE + source.replace("§", "large"))
    with pytest.raises(InvalidRequest, match="what templates must not do"):
        render(LARGE + source.replace("§", "large ~ large"))


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' ~ 'b' }}",
        "{{ messages|length ~ none ~ nothing ~ 1.5 ~ true ~ [1, 'x'] ~ {'k': 1} }}",
        "{{ 'a' ~ 'b' * 2 ~ 'c'|upper }} {{ ('a' ~ 1) == 'a1' }} {{ ('a' ~ 'b')|length }}",
        "{% for m in messages %}{{ loop.index ~ m.role ~ ('-' ~ m.content if m) }}{% endfor %}",
    ],
)
def test_a_concatenation_is_jinjas(source: str) -> None:
    messages = [{"role": "user", "content": "hello"}]
    assert render(source) == Environment().from_string(source).render(messages=messages)


@pytest.mark.parametrize(
    "loop",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    ],
)
def test_a_template_that_takes_too_long_is_stopped(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_threads = threading.active_count()
    monkeypatch.setattr(template_traits, "LIMIT_S", 0.1)
    monkeypatch.setattr(render_limits, "LIMIT_CPU_S", 0.1)
    with pytest.raises(InvalidRequest, match="took too long"):
        render(loop)
    assert threading.active_count() == n_threads


@pytest.mark.parametrize(
    "endless",
    [
        "{% for i in range(99999) %}{% for j in range(99999) if j < 0 %}{% endfor %}{% endfor %}",
        "{% set l = range(99999)|list %}{{ ([l] * 99999)|map('sum')|list }}",
        "{% set l = range(99999)|list %}{{ ([l] * 99999)|map('last')|map('abs')|sum }}"
        "{% for i in range(99999) %}{{ l|sum or '' }}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
        "{{ f(60) }}",
        "{% for i in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% continue %}{% endfor %}"
        "{% endfor %}",
    ],
)
def test_no_way_to_take_long_goes_around_the_limit(
    endless: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_traits, "LIMIT_S", 0.1)
    monkeypatch.setattr(render_limits, "LIMIT_CPU_S", 0.1)
    began_cpu_s = time.thread_time()
    with pytest.raises(InvalidRequest):
        render(endless)
    # One rendering of the traits, and two forms are tried.
    assert time.thread_time() - began_cpu_s < 3.0


def test_a_template_is_not_too_slow_because_the_machine_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    minutes = itertools.count(step=60)
    clock = SimpleNamespace(monotonic=lambda: float(next(minutes)), thread_time=time.thread_time)
    monkeypatch.setattr(render_limits, "time", clock)
    assert render("{% for i in range(9) %}{{ i }}{% endfor %}") == "012345678"
