"""The schemas that a policy names: read once each, and every GraphQL rule held against what its schema has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from gateway.core.graphql.schema import OutputType, Schema, read_schema
from gateway.core.policy.document import FieldEntry, GraphQLEntry, PolicyDocument, Text
from gateway.core.policy.faults import Fault, Place, did_you_mean, listed, nearest


def schema_files(document: PolicyDocument) -> tuple[str, ...]:
    """The files with the schemas that a policy names, in order, each once."""
    named = (route.graphql.schema for route in document.routes if route.graphql is not None)
    return tuple(sorted({beside(name) for name in named if name is not None}))


def beside(name: Text) -> str:
    """The file of that name in the folder of the policy file that names it."""
    folder, slash, _ = name.place.file.rpartition("/")
    return f"{folder}{slash}{name.value}"


class Schemas:
    """The schemas of one policy. `faults` grows as they are asked for."""

    def __init__(self, texts: Mapping[str, bytes], faults: list[Fault]) -> None:
        self._texts = texts
        self._faults = faults
        self._read: dict[str, Schema | None] = {}

    def of(self, entry: GraphQLEntry) -> Schema | None:
        """The schema of a route, when it names one that can be used; its rules are held against it."""
        if entry.schema is None:
            return None
        file = beside(entry.schema)
        if file not in self._read:
            self._read[file] = self._schema(file, entry.schema)
        schema = self._read[file]
        if schema is not None:
            for field in entry.fields:
                self._faults += _faults_of(field, schema)
        return schema

    def _schema(self, file: str, named: Text) -> Schema | None:
        content = self._texts.get(file)
        if content is None:
            what = f"there is no file `{named.value}` beside the policy"
            self._faults.append(Fault(named.place, what, "check the name, or print the SDL of the upstream into it"))
            return None
        try:
            sdl = content.decode("utf-8")
        except UnicodeDecodeError:
            self._faults.append(Fault(Place(file, 1, 1), "the schema is not UTF-8", "save it as UTF-8"))
            return None
        read = read_schema(sdl)
        if isinstance(read, Schema):
            return read
        for fault in read:
            place = Place(file, fault.line, fault.column)
            self._faults.append(Fault(place, f"the schema is not valid ({fault.what})", _MEND))
        return None


_MEND: Final = "mend it, or print it anew from the upstream"


MAX_LISTED: Final = 12


def _meant(word: str, known: Iterable[str]) -> str:
    """The name that was probably meant, or those there are, unless they are many."""
    names = sorted(known)
    if len(names) > MAX_LISTED and nearest(word, names) is None:
        return "look its spelling up in the schema"
    return did_you_mean(word, names)


def _faults_of(field: FieldEntry, schema: Schema) -> Iterator[Fault]:
    """What a rule names that the schema does not have."""
    place = field.coordinate.place
    first, *names = field.coordinate.value.split(".")
    here = schema.types.get(first)
    if here is None:
        known = [name for name in schema.types if not name.startswith("__")]
        yield Fault(place, f"the schema has no type `{first}` with fields", _meant(first, known))
        return
    if not names:
        if not here.fields:
            types = listed(sorted(here.possible), "and")
            yield Fault(place, f"`{first}` is a union, which has no fields of its own", f"name its types, {types}")
        if _named_in(field):
            todo = "write the rule for each field that has the argument"
            yield Fault(place, f"`{first}` is a whole type, whose fields have no one argument", todo)
        return
    if len(names) > 1 and first not in schema.roots.values():
        todo = f"write `{first}.{names[0]}`, or a path from {listed(schema.roots.values())}"
        yield Fault(place, f"`{field.coordinate.value}` is a path that begins at no root type", todo)
        return

    reached = [here]
    for index, name in enumerate(names):
        owners = [one for one in _all_of(reached, schema, is_path=len(names) > 1) if name in one.fields]
        if not owners:
            fields = sorted({known for one in reached for known in one.fields if not known.startswith("__")})
            what = f"{listed([one.name for one in reached], 'and')} of the schema has no field `{name}`"
            yield Fault(place, what, _meant(name, fields))
            return
        below = sorted({one.fields[name].type_name for one in owners})
        reached = [schema.types[one] for one in below if one in schema.types]
        if not reached and index + 1 < len(names):
            yield Fault(place, f"`{name}` of the schema has no fields", "end the path there")
            return
    for named in _named_in(field):
        if len(names) > 1:
            todo = f"write the rule by its type, such as `{owners[0].name}.{names[-1]}`"
            yield Fault(named.place, "with a schema, a path cannot say whose arguments are meant", todo)
        else:
            yield from _faults_of_path(named, first, names[0], schema)


def _all_of(reached: list[OutputType], schema: Schema, *, is_path: bool) -> list[OutputType]:
    """The types themselves, and on a path what they can be at run time."""
    if not is_path:
        return reached
    return [*reached, *(schema.types[name] for one in reached for name in sorted(one.possible) if name != one.name)]


def _named_in(field: FieldEntry) -> list[Text]:
    """The parts of the request by which the rule knows a user or an App."""
    app = None if field.allow.api_key is None else field.allow.api_key.app
    subject = None if field.allow.user_token is None else field.allow.user_token.subject
    return [named for named in (app, subject) if named is not None]


def _faults_of_path(named: Text, type_name: str, field_name: str, schema: Schema) -> Iterator[Fault]:
    """What `args.NAME` names that the field, on any of its types, does not take."""
    kind, *path = named.value.split(".")
    if kind != "args":
        return
    for owner in schema.covering(type_name, field_name):
        for depth in range(1, len(path) + 1):
            if schema.defaults_on(owner, field_name, tuple(path[:depth])) is None:
                steps = schema.step_names(owner, field_name, tuple(path[: depth - 1]))
                where = ".".join((f"{owner}.{field_name}", *path[: depth - 1]))
                todo = _meant(path[depth - 1], steps) if steps else "name an argument that the field takes"
                yield Fault(named.place, f"`{where}` of the schema takes no `{path[depth - 1]}`", todo)
                break
