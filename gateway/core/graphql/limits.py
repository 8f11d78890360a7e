"""How much one GraphQL document may ask of the parser and of the upstream."""

from __future__ import annotations

import msgspec


class GraphQLLimits(msgspec.Struct, frozen=True, cache_hash=True):
    """Caps on the chosen operation with its fragments; each holds at n and is refused at n + 1."""

    tokens: int = 5000
    """Lexical tokens of the whole document, comments included: counted before and while it is parsed."""
    depth: int = 15
    """Fields within fields, fragments followed; a root field has depth 1."""
    aliases: int = 30
    """Aliased fields of the operation, each counted as often as its fragment is spread."""
    directives: int = 50
    """Directives of the operation, each counted as often as its fragment is spread."""
    root_fields: int = 20
    """Fields directly below the operation, `__typename` and repeated ones included."""
    introspection_depth: int = 15
    """Fields within `__schema` and `__type`, which have depth 1; they count here and not in `depth`."""
    cost: int = 0
    """Fields, each times the sizes of the lists around it; 0: not counted."""
    multipliers: tuple[str, ...] = ("first", "last", "limit")
    """The arguments that say how many items a list is asked for."""
    incremental: bool = False
    """`@defer` and `@stream` are known."""
    subscriptions: bool = False
    """A subscription may be chosen."""
    one_operation: bool = False
    """Nothing but the chosen operation and the fragments that it uses: the text goes on as it is."""
