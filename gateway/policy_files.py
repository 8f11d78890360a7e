"""Policies on disk: one file or a folder of `*.yaml`, read once, as UTF-8, into a compiled policy or all its faults.

Only plain YAML is accepted: no anchors, aliases, merge keys, tags or several documents in one file, so what a
reviewer reads is what is loaded. Sizes are bounded before and while a file is parsed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from gateway.core.policy.compiler import compile_policy
from gateway.core.policy.document import PolicyDocument
from gateway.core.policy.faults import Fault, Place, PolicyInvalid, in_order
from gateway.core.policy.graphql_documents import document_files
from gateway.core.policy.graphql_schemas import schema_files
from gateway.core.policy.reader import read_policy
from gateway.core.policy.routes import Policy
from gateway.core.policy.tree import Listing, Mapping, Node, Scalar

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_FILES: Final = 200
MAX_NODES: Final = 250_000
"""Texts, lists and mappings of one file. Some 10,000 routes need 130,000; the parser reads 40,000 in a second."""
MAX_DEPTH: Final = 20

CASES_SUFFIX: Final = ".cases.yaml"
COMPANIONS: Final = (CASES_SUFFIX, ".demo.yaml")
"""What may lie beside a policy without being part of it: its cases, and example data for the demo."""

SCHEMA_SUFFIXES: Final = (".graphql", ".graphqls", ".documents.json")
_SCHEMA_NAME: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.(?:graphqls?|documents\.json)")
"""Whatever may be the name of a schema, or of a file with documents, in a policy that is not read yet; `schema:` and
`documents:` accept no others."""


class LoadedPolicy(msgspec.Struct, frozen=True):
    """A policy that may be used, what is worth a look in it, and as what it was written, with places."""

    policy: Policy
    document: PolicyDocument
    advice: tuple[Fault, ...]
    files: tuple[Path, ...]


def load(path: Path) -> LoadedPolicy:
    """The policy in a file, or in all `*.yaml` of a folder (companions excluded) taken together.

    Raises: PolicyInvalid with every fault, in order of place
    """
    files, texts = read_texts(path)
    policy, document, advice = _compiled(texts)
    return LoadedPolicy(policy, document, advice, files)


def read_texts(path: Path) -> tuple[tuple[Path, ...], list[tuple[str, bytes]]]:
    """The files of the policy at `path`, and what each of them and of their schemas holds, by the name in faults.

    Raises: PolicyInvalid when they cannot be read; what stands in them is not looked at
    """
    if path.name.endswith(COMPANIONS) and not path.is_dir():
        raise PolicyInvalid([_companion(path)])
    if path.name.endswith(SCHEMA_SUFFIXES) and not path.is_dir():
        place = Place(_shown(path), 1, 1)
        raise PolicyInvalid([Fault(place, "this is a schema, not a policy", "give the policy that names it")])
    files = policy_files(path)
    texts: list[tuple[str, bytes]] = []
    for file in files:
        if file.exists() and not (file.is_file() or file.is_dir()):
            # A pipe or a device may never end, and a reload that never ends holds up the next one and the exit.
            place = Place(_shown(file), 1, 1)
            raise PolicyInvalid([Fault(place, "this is not a regular file", "name a file with a policy in it")])
        try:
            with file.open("rb") as stream:
                texts.append((_shown(file), stream.read(MAX_FILE_BYTES + 1)))
        except OSError as fault:
            raise PolicyInvalid([_unreadable(file, fault)]) from fault
    return files, texts + _read_schemas(files, texts)


def _read_schemas(files: tuple[Path, ...], texts: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """What the schemas beside the policy files hold, of those that the files mention.

    Raises: PolicyInvalid when one is there and cannot be read
    """
    mentioned = {
        file.with_name(name.decode("ascii"))
        for file, (_, content) in zip(files, texts, strict=True)
        for line in content.splitlines()
        if b".graphql" in line or b".documents.json" in line
        for name in _SCHEMA_NAME.findall(line)
    }
    schemas: list[tuple[str, bytes]] = []
    for file in sorted(mentioned):
        if not file.is_file():
            continue
        try:
            with file.open("rb") as stream:
                content = stream.read(MAX_FILE_BYTES + 1)
        except OSError as fault:
            raise PolicyInvalid([_unreadable(file, fault)]) from fault
        if len(content) > MAX_FILE_BYTES:
            is_schema = file.suffix != ".json"
            what = f"the {'schema is' if is_schema else 'documents are'} larger than {MAX_FILE_BYTES // 1024**2} MiB"
            todo = "take its descriptions out" if is_schema else "take out those that no client sends"
            raise PolicyInvalid([Fault(Place(_shown(file), 1, 1), what, todo)])
        schemas.append((_shown(file), content))
    return schemas


def compile_texts(texts: list[tuple[str, bytes]]) -> tuple[Policy, tuple[Fault, ...]]:
    """(policy, advice) of named texts.

    Raises: PolicyInvalid with every fault, in order of place
    """
    policy, _, advice = _compiled(texts)
    return policy, advice


def _compiled(texts: list[tuple[str, bytes]]) -> tuple[Policy, PolicyDocument, tuple[Fault, ...]]:
    faults: list[Fault] = []
    trees: list[Node] = []
    schemas = {name: content for name, content in texts if name.endswith(SCHEMA_SUFFIXES)}
    policies = [(name, content) for name, content in texts if name not in schemas]
    for name, content in policies:
        tree = read_tree(name, content, faults)
        if tree is not None:
            trees.append(tree)
    if faults:
        # A file that is not read hides what the others refer to: saying more would mislead.
        raise PolicyInvalid(faults)

    document, faults = read_policy(trees)
    named = (*schema_files(document), *document_files(document))
    used = {file: schemas[file] for file in named if file in schemas}
    revision = revision_of([*(content for _, content in policies), *used.values()])
    policy, compile_faults = compile_policy(document, revision, used)
    faults += compile_faults
    if any(not fault.is_advice for fault in faults):
        raise PolicyInvalid(fault for fault in faults if not fault.is_advice)
    return policy, document, in_order(faults)


def revision_of(contents: list[bytes]) -> str:
    """The first 16 hexadecimal digits of what `sha256sum` prints of the file; of several, of their sorted digests.

    Names and order have no part in it: a policy that is renamed or moved is the same policy.
    """
    digests = sorted(hashlib.sha256(content).hexdigest() for content in contents)
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return whole[:16]


def policy_files(path: Path) -> tuple[Path, ...]:
    """The files of the policy at `path`, in order of their names.

    Raises: PolicyInvalid when there are none, or too many, or one that would be overlooked
    """
    if not path.is_dir():
        return (path,)

    try:
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as fault:
        raise PolicyInvalid([_unreadable(path, fault)]) from fault
    place = Place(_shown(path), 1, 1)
    overlooked = [entry for entry in entries if entry.suffix in (".yml", ".YAML", ".YML")]
    if overlooked:
        raise PolicyInvalid(
            Fault(Place(_shown(entry), 1, 1), "only files whose names end in `.yaml` are read", "rename this one")
            for entry in overlooked
        )
    files = [entry for entry in entries if entry.suffix == ".yaml" and not entry.name.endswith(COMPANIONS)]
    if not files:
        raise PolicyInvalid([Fault(place, "this folder has no policy files", "add one whose name ends in `.yaml`")])
    if len(files) > MAX_FILES:
        raise PolicyInvalid([Fault(place, f"this folder has more than {MAX_FILES} policy files", "join some of them")])
    return tuple(files)


def _shown(path: Path) -> str:
    return path.as_posix()


def _companion(path: Path) -> Fault:
    suffix = next(suffix for suffix in COMPANIONS if path.name.endswith(suffix))
    policy = f"`{path.name.removesuffix(suffix)}.yaml`"
    place = Place(_shown(path), 1, 1)
    if suffix == CASES_SUFFIX:
        return Fault(place, "this is a file of cases, not a policy", f"give the policy beside it, {policy}")
    return Fault(place, "this is example data for the demo, not a policy", f"give the policy beside it, {policy}")


def _unreadable(path: Path, fault: OSError) -> Fault:
    return Fault(
        Place(_shown(path), 1, 1),
        f"this cannot be read ({(fault.strerror or 'unknown').lower()})",
        "check the path and its permissions",
    )


# -- from bytes to a tree


class _Refused(Exception):
    """Leaves the parser with the fault; never leaves this module."""

    def __init__(self, place: Place, what: str, todo: str) -> None:
        super().__init__(what)
        self.fault = Fault(place, what, todo)


def read_tree(name: str, content: bytes, faults: list[Fault], beginning: str = "version: 1") -> Node | None:
    """The tree of one file, or None with the first thing in `faults` that keeps it from being read.

    `beginning` is what an empty file should begin with.
    """
    try:
        tree = _tree(name, _text(name, content))
        if tree is None:
            raise _Refused(Place(name, 1, 1), "the file is empty", f"begin it with `{beginning}`")
        return tree
    except _Refused as refused:
        faults.append(refused.fault)
    except MarkedYAMLError as fault:
        faults.append(_not_yaml(name, fault))
    except (YAMLError, RecursionError, ValueError):
        faults.append(Fault(Place(name, 1, 1), "this is not YAML", "check that it is a text file with keys and values"))
    return None


# Controls, what only some readers take for the end of a line, and what turns the direction of a text, so that a
# reviewer reads another policy than the one that is loaded.
_BAD_CHARACTER: Final = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
    "|[\u200b-\u200f\u2028-\u202e\u2060-\u206f]"
    "|\r(?!\n)"
)
_DIRECTIVE: Final = re.compile("^%", re.MULTILINE)
_INDENTING_TAB: Final = re.compile(r"^[ ]*\t", re.MULTILINE)


def _not_yaml(name: str, fault: MarkedYAMLError) -> Fault:
    """What the parser stumbled over: the two usual slips in words of their own, anything else in the parser's."""
    mark = fault.problem_mark or fault.context_mark
    place = Place(name, 1, 1) if mark is None else Place(name, mark.line + 1, mark.column + 1)
    problem = (fault.problem or "it does not parse").splitlines()[0].rstrip(".")
    if problem == "found unexpected end of stream" and fault.context_mark is not None:
        opened = Place(name, fault.context_mark.line + 1, fault.context_mark.column + 1)
        return Fault(opened, "the quote that is opened here is never closed", "close it at the end of its text")
    if problem == "expected ',' or '}', but got '{'":
        return Fault(
            place,
            "a brace stands in a text without quotes, within `{…}`",
            'put the text in quotes, such as `match: "GET /users/{user_id}"`',
        )
    return Fault(
        place,
        f"this is not YAML from here on ({problem})",
        "check the indentation, colons and quotes of this line and the one before",
    )


def _text(name: str, content: bytes) -> str:
    start = Place(name, 1, 1)
    if len(content) > MAX_FILE_BYTES:
        raise _Refused(
            start,
            f"the file is larger than {MAX_FILE_BYTES // 1024**2} MiB",
            "split it into several files in one folder",
        )
    # A node has a separator of its own, so more separators than this are more nodes than this.
    if sum(map(content.count, (b"\n", b",", b":", b"["))) > 2 * MAX_NODES:
        raise _Refused(start, "the file has too many parts", "split it into several files in one folder")
    if content.startswith(b"\xef\xbb\xbf"):
        raise _Refused(start, "the file begins with a byte order mark", "save it as UTF-8 without one")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in content[:4]:
        raise _Refused(start, "the file is UTF-16 or UTF-32", "save it as UTF-8")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise _Refused(
            _place_at(name, content[: fault.start].decode("utf-8")),
            "the file is not UTF-8 from here on",
            "save it as UTF-8",
        ) from fault
    tab = _INDENTING_TAB.search(text)
    if tab is not None:
        raise _Refused(_place_at(name, text[: tab.end() - 1]), "a tab stands in the indentation", "use spaces")
    directive = _DIRECTIVE.search(text)
    if directive is not None:
        place = _place_at(name, text[: directive.start()])
        raise _Refused(place, "a line that begins with `%` is a YAML directive", "take it out")
    bad = _BAD_CHARACTER.search(text)
    if bad is not None:
        raise _Refused(
            _place_at(name, text[: bad.start()]),
            f"the character U+{ord(bad.group()):04X} cannot stand here",
            "take it out",
        )
    return text


def _place_at(name: str, before: str) -> Place:
    lines = before.split("\n")
    return Place(name, len(lines), len(lines[-1]) + 1)


def _tree(name: str, text: str) -> Node | None:
    """The tree, or None of an empty file.

    It is built from the parser's events, so that nothing is expanded or resolved before it has been seen.
    """
    documents = 0
    nodes = 0
    open_nodes: list[tuple[Place, bool, list[Node]]] = []
    root: Node | None = None
    for event in YAML(typ="rt", pure=True).parse(text):
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Refused(_place(name, event), "the file has a second document", "put it into a file of its own")
            continue
        if isinstance(event, MappingEndEvent | SequenceEndEvent):
            node = _closed(*open_nodes.pop())
        elif isinstance(event, NodeEvent):
            nodes += 1
            _check(name, event, nodes)
            place = _place(name, event)
            if isinstance(event, MappingStartEvent | SequenceStartEvent):
                if len(open_nodes) == MAX_DEPTH:
                    raise _Refused(place, f"this is nested deeper than {MAX_DEPTH} levels", "make it flatter")
                open_nodes.append((place, isinstance(event, MappingStartEvent), []))
                continue
            assert isinstance(event, ScalarEvent)  # `_check` has refused aliases
            node = Scalar(event.value, place, event.style is None)
        else:
            continue
        if open_nodes:
            open_nodes[-1][2].append(node)
        else:
            root = node
    return root


def _closed(place: Place, is_mapping: bool, children: list[Node]) -> Node:
    if not is_mapping:
        return Listing(tuple(children), place)
    entries: list[tuple[Scalar, Node]] = []
    for key, value in zip(children[::2], children[1::2], strict=True):
        if not isinstance(key, Scalar):
            raise _Refused(key.place, "a key is a list or a mapping", "write a plain word as the key")
        if isinstance(value, Scalar) and value.is_plain and not value.text:
            value = Scalar("", key.place)  # noqa: PLW2901 - the parser puts nothing after the line where it is missing
        entries.append((key, value))
    return Mapping(tuple(entries), place)


def _check(name: str, event: NodeEvent, nodes: int) -> None:
    """Refuses what makes a file say more, or other things, than it shows (J3, J4, J5)."""
    if nodes > MAX_NODES:
        raise _Refused(_place(name, event), "the file has too many parts", "split it into several files in one folder")
    if isinstance(event, AliasEvent):
        raise _Refused(_place(name, event), f"the alias `*{event.anchor}` is not accepted", "write the value out here")
    if event.anchor is not None:
        raise _Refused(
            _place(name, event),
            f"the anchor `&{event.anchor}` is not accepted",
            "write the value out wherever it is needed",
        )
    tag = getattr(event, "tag", None)
    if tag is not None:
        shown = str(tag).replace("tag:yaml.org,2002:", "!!")
        raise _Refused(_place(name, event), f"the tag `{shown}` is not accepted", "write the plain value")


def _place(name: str, event: Event) -> Place:
    return Place(name, event.start_mark.line + 1, event.start_mark.column + 1)
