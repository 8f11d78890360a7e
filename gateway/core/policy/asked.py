"""What a GraphQL selection asks of its caller: which rules it meets, and what each kind of credential must fulfil.

Worked out once for a selection and the rules of a route, and kept with the selection, so that a request of a document
that was seen before compares scopes and nothing else. What follows from arguments is kept as places to look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, final

from gateway.core.credential import CredentialKind
from gateway.core.graphql.schema import Schema
from gateway.core.graphql.selection import SelectedField, Selection
from gateway.core.graphql.values import ABSENT, OTHER, Named, Value, Variable, uses
from gateway.core.policy.requirement import Requirement, Requirements, Subject, SubjectPlace
from gateway.core.policy.routes import GraphQLRules

INTROSPECTION: Final = frozenset(("Query.__schema", "Query.__type"))
FREE: Final = frozenset(("Query.__typename", "Mutation.__typename"))
INTROSPECTION_RULE: Final = "introspection"

NAMED_ALONE: Final = frozenset(("_service", "_entities", "node", "nodes"))
"""Root fields that reach everything (G43, G44): the rule of a whole type does not open them."""

MAX_KEPT: Final = 4
"""Of how many rules a selection keeps what it asks: those of its route, and for a while those of an older policy."""


@final
class Naming:
    """A selected field of which a part has to name the caller: the user of a token, or the App of a key."""

    __slots__ = ("_fallbacks", "_path", "_value", "coordinate", "written")

    def __init__(
        self, coordinate: str, written: str, value: Value, path: tuple[str, ...], fallbacks: tuple[Value, ...]
    ) -> None:
        self.coordinate = coordinate
        self.written = written
        """The part, as the policy has it: `args.id`."""
        self._value = value
        self._path = path
        self._fallbacks = fallbacks

    def names_only(self, who: str, given: Mapping[str, object]) -> bool:
        """Whether it names `who` with these variables, wherever it names somebody."""
        return Named(self._path, self._fallbacks, given, who).is_all_of(self._value)


@final
class Asked:
    """What one kind of credential is asked for one selection."""

    __slots__ = ("forbidden", "namings", "needs")

    forbidden: Final[tuple[str, ...]]
    """Coordinates that no rule allows this kind."""
    needs: Final[tuple[tuple[Requirement, tuple[str, ...]], ...]]
    """Scopes, and which coordinates ask for them."""
    namings: Final[tuple[Naming, ...]]

    def __init__(
        self,
        forbidden: tuple[str, ...],
        needs: tuple[tuple[Requirement, tuple[str, ...]], ...],
        namings: tuple[Naming, ...],
    ) -> None:
        self.forbidden = forbidden
        self.needs = needs
        self.namings = namings


@final
class _Kept:
    """What a selection asks by one set of rules."""

    __slots__ = ("by_kind", "rules")

    rules: Final[GraphQLRules]
    by_kind: Final[dict[CredentialKind, Asked]]

    def __init__(self, rules: GraphQLRules) -> None:
        self.rules = rules
        self.by_kind = {}


def asked_of(rules: GraphQLRules, selection: Selection, kind: CredentialKind) -> Asked:
    """What a credential of `kind` is asked for `selection` by `rules`."""
    kept = selection.judged.get(id(rules))
    # INVARIANT: the rules are kept beside what follows from them, so their identity cannot come to mean others.
    if not isinstance(kept, _Kept) or kept.rules is not rules:
        if len(selection.judged) >= MAX_KEPT:
            selection.judged.clear()
        kept = _Kept(rules)
        selection.judged[id(rules)] = kept
    asked = kept.by_kind.get(kind)
    if asked is None:
        asked = kept.by_kind[kind] = _work_out(rules, selection, kind)
    return asked


def rules_met(rules: GraphQLRules, selection: Selection) -> frozenset[str]:
    """The names of the rules that a selection is judged by, and `introspection`."""
    return frozenset(name for _, name, _ in _questions(rules, selection) if name)


_Question = tuple[str, str, Requirements]
"""The coordinate that was selected, the rule that is asked (empty where there is none), and what it says."""


def _questions(rules: GraphQLRules, selection: Selection) -> Iterator[_Question]:
    for coordinate in selection.coordinates:
        if coordinate in INTROSPECTION:
            yield coordinate, INTROSPECTION_RULE, rules.introspection
        elif coordinate not in FREE:
            name = _rule_of_root(rules, coordinate)
            yield coordinate, name, rules.fields.get(name, {})
    for path in rules.fields:
        if path in selection.paths:
            yield path, path, rules.fields[path]
    if rules.schema is not None:
        for coordinate, owner in _covered(rules.schema, selection):
            name = _rule_of(rules, owner, coordinate.partition(".")[2])
            if name:
                yield coordinate, name, rules.fields[name]


def _rule_of_root(rules: GraphQLRules, coordinate: str) -> str:
    type_name, _, field_name = coordinate.partition(".")
    return _rule_of(rules, type_name, field_name)


def _rule_of(rules: GraphQLRules, type_name: str, field_name: str) -> str:
    """The rule of a field, or else of its whole type."""
    own = f"{type_name}.{field_name}"
    if own in rules.fields:
        return own
    is_covered = type_name in rules.fields and field_name not in NAMED_ALONE and not field_name.startswith("__")
    return type_name if is_covered else ""


def _covered(schema: Schema, selection: Selection) -> Iterator[tuple[str, str]]:
    """Each selected coordinate with each type whose rules hold for it."""
    for coordinate in dict.fromkeys(field.coordinate for field in selection.fields):
        type_name, _, field_name = coordinate.partition(".")
        for owner in schema.covering(type_name, field_name):
            yield coordinate, owner


def _work_out(rules: GraphQLRules, selection: Selection, kind: CredentialKind) -> Asked:
    forbidden: set[str] = set()
    needs: dict[Requirement, set[str]] = {}
    namings: dict[tuple[str, Subject], None] = {}
    for coordinate, _, said in _questions(rules, selection):
        requirement = said.get(kind)
        if requirement is None:
            forbidden.add(coordinate)
            continue
        if isinstance(requirement, Requirement):
            needs.setdefault(requirement, set()).add(coordinate)
            subject = requirement.app
        else:
            subject = requirement.subject
        if subject is not None:
            namings[coordinate, subject] = None
    return Asked(
        tuple(sorted(forbidden)),
        tuple((requirement, tuple(sorted(met))) for requirement, met in needs.items()),
        tuple(naming for one in namings for naming in _namings(rules.schema, selection, *one)),
    )


def _namings(schema: Schema | None, selection: Selection, coordinate: str, subject: Subject) -> Iterator[Naming]:
    """Every place where a field is selected, with the defaults of every type that could be the one that answers.

    At least one: where a field is selected in no place that is known, nobody is named.
    """
    is_found = False
    path = tuple(subject.name.split("."))
    written = f"{subject.place.value}.{subject.name}"
    nothing: tuple[Value, ...] = (ABSENT,) * len(path)
    for field in selection.fields:
        if field.coordinate != coordinate:
            continue
        is_found = True
        if subject.place is SubjectPlace.VARIABLES:
            yield Naming(coordinate, written, _variable(selection, field, path[0]), path[1:], nothing)
            continue
        for fallbacks in _fallbacks(schema, coordinate, path) or {nothing}:
            yield Naming(coordinate, written, field.arguments, path, fallbacks)
    if not is_found:
        yield Naming(coordinate, written, OTHER, path, nothing)


def _fallbacks(schema: Schema | None, coordinate: str, path: tuple[str, ...]) -> set[tuple[Value, ...]]:
    """The defaults along a path, of each type that has some."""
    if schema is None:
        return set()
    type_name, _, field_name = coordinate.partition(".")
    found = (schema.defaults_on(owner, field_name, path) for owner in schema.types[type_name].possible)
    return {defaults for defaults in found if defaults is not None}


def _variable(selection: Selection, field: SelectedField, name: str) -> Value:
    """The variable `name`, where the operation declares it and the field is given it."""
    declared = selection.variables.get(name)
    if declared is None or not uses(field.arguments, name):
        return OTHER
    return Variable(name, declared.default)
