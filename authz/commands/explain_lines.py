"""An explanation, in lines for people."""

from collections.abc import Iterator

from authz.policy.explain import Condition, Explanation, Way

Line = tuple[str, object]
_OUTCOMES = {"allow": "", "approve": " (then a person's approval is needed)"}


def lines_of(found: Explanation) -> list[Line]:
    """Say verdict, who, what, why, and what would be different."""
    return [
        (found.effect.upper(), f"{found.code}  {found.sentence}"),
        ("who", _who(found)),
        ("what", _what(found)),
        *_conditions(found),
        *((_title(way), _way(way)) for way in found.would_allow),
        *((name, ", ".join(values)) for name, values in found.obligations.items()),
        ("policy", _policy(found)),
        (
            "exact",
            f"no: {'; '.join(found.inexact)}" if found.inexact else "yes: nothing but the question counts",
        ),
    ]


def _who(found: Explanation) -> str:
    groups = f" ({', '.join(found.who.groups)})" if found.who.groups else ""
    human = f"{found.who.human}{groups}" if found.who.human else "nobody" if found.who.chain else "not known"
    steps = " → ".join([human, *found.who.chain])
    presenter = f", presented by {found.who.peer}" if found.who.peer else ""
    binding = f", bound by {found.who.binding}" if found.who.binding else ""
    return f"{steps}{presenter}{binding}"


def _what(found: Explanation) -> str:
    parts = [str(found.what[key]) for key in ("service", "name") if found.what.get(key)]
    return f"{found.what.get('method') or '-'} {'/'.join(parts) or '-'}"


def _conditions(found: Explanation) -> Iterator[Line]:
    for condition in found.conditions:
        yield from _carried(condition) if found.effect == "allow" else _failed(condition)


def _carried(condition: Condition) -> Iterator[Line]:
    yield "carried by", f"{_rule(condition)}: {condition.message}"


def _failed(condition: Condition) -> Iterator[Line]:
    only = " (operators only)" if condition.audience == "operator" else ""
    rule = f"{_rule(condition)}: " if condition.rule else ""
    yield "fails", f"{condition.code}  {rule}{condition.message}{only}"
    if condition.wanted and not only:
        yield "  wanted", condition.wanted
    if condition.actual and not only:
        yield "  got", condition.actual


def _rule(condition: Condition) -> str:
    return f"{condition.rule} ({condition.at})" if condition.at else condition.rule


def _title(way: Way) -> str:
    return "would allow" if way.effect == "allow" else "may allow" if way.effect is None else "would help"


def _way(way: Way) -> str:
    changes = "  and  ".join(f"{change.kind}: {change.what}" for change in way.changes)
    return f"{changes}{' (not tried)' if way.effect is None else _OUTCOMES.get(way.effect, '')}"


def _policy(found: Explanation) -> str:
    about = found.policy
    return f"{about['revision'] or 'not asked'} ({about['rego']} Rego, {about['grants']}, {about['engine']})"
