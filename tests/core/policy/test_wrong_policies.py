"""Wrong policy files, each with every word of what its author is told: where, what, and what to do."""

from __future__ import annotations

import pytest

from gateway.core.policy.faults import PolicyInvalid
from gateway.policy_files import compile_texts

START = """\
version: 1
scopes:
  USER_READ: {means: read users, aliases: [user.read]}
  USER_DELETE: {means: delete users}
routes:
"""

WRONG: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "`scope` for `allow`",
        START
        + """\
  - name: users.read
    match: GET /users
    upstream: rest
    scope: USER_READ
""",
        ("9:5: route `users.read` has no key `scope`; write `allow`, which says who may: `allow: {api_key: SCOPE}`",),
    ),
    (
        "a key is misspelt",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    allow: {api_key: USER_READ}
    upsteam: rest
""",
        ("9:5: route `users.read` has no key `upsteam`; did you mean `upstream`?",),
    ),
    (
        "an unknown key like no other",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    colour: red
""",
        (
            "10:5: route `users.read` has no key `colour`; use `name`, `match`, `upstream`, `allow`, `graphql`, `errors`, `deprecated`, `body` or `body_limit`",
        ),
    ),
    (
        "a key twice",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    match: GET /x
""",
        ("10:5: the key `match` is here already, on line 7; keep one of the two",),
    ),
    (
        "a scope twice in a file",
        """\
version: 1
scopes:
  A: {means: a}
  A: {means: b}
routes:
  - {name: a, match: GET /a, upstream: rest, allow: {api_key: A}}
""",
        ("4:3: the key `A` is here already, on line 3; keep one of the two",),
    ),
    (
        "a merge key",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    <<: {upstream: rest}
""",
        ("10:5: the merge key `<<` is not accepted; write the keys out where they apply",),
    ),
    (
        "a name that is a truth value",
        START
        + """\
  - name: on
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        (
            '6:11: `name` must be text, but `on` is true or false to some readers of YAML; put it in quotes if it is meant: `"on"`',
        ),
    ),
    (
        "an upstream that is a truth value",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: yes
    allow: {api_key: USER_READ}
""",
        (
            '8:15: `upstream` must be text, but `yes` is true or false to some readers of YAML; put it in quotes if it is meant: `"yes"`',
        ),
    ),
    (
        "a hexadecimal number",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: 0x10
    allow: {api_key: USER_READ}
""",
        (
            '8:15: `upstream` must be text, but `0x10` is a number to some readers of YAML; put it in quotes if it is meant: `"0x10"`',
        ),
    ),
    (
        "a date for a text",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: 2027-06-30
    allow: {api_key: USER_READ}
""",
        (
            '8:15: `upstream` must be text, but `2027-06-30` is a date to some readers of YAML; put it in quotes if it is meant: `"2027-06-30"`',
        ),
    ),
    (
        "a sexagesimal number",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: 22:22
    allow: {api_key: USER_READ}
""",
        (
            '8:15: `upstream` must be text, but `22:22` is a number to some readers of YAML; put it in quotes if it is meant: `"22:22"`',
        ),
    ),
    (
        "no version",
        """\
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: anyone
""",
        (
            "1:1: the file does not say which version of the policy language it is written in; begin it with `version: 1`",
        ),
    ),
    (
        "a future version",
        """\
version: 2
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: anyone
""",
        (
            "1:10: version 2 of the policy language is newer than this gateway; write `version: 1`, or upgrade the gateway",
        ),
    ),
    (
        "a version in words",
        """\
version: one
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: anyone
""",
        ("1:10: `version` must be the number 1; write `version: 1`",),
    ),
    (
        "empty any",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: {any: []}}
""",
        (
            "9:28: `any` is an empty list of scopes; name at least one scope, or write `allow: anyone` for a route that needs no token",
        ),
    ),
    (
        "empty all",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: {all: []}}
""",
        (
            "9:28: `all` is an empty list of scopes; name at least one scope, or write `allow: anyone` for a route that needs no token",
        ),
    ),
    (
        "list",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: [USER_READ, USER_DELETE]}
""",
        (
            "9:22: a list does not say whether a key needs all of the scopes or any one of them; write it as `{all: [USER_READ, USER_DELETE]}` or `{any: [USER_READ, USER_DELETE]}`",
        ),
    ),
    (
        "emptylist",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: []}
""",
        (
            "9:22: `api_key` is an empty list of scopes; name at least one scope, or write `allow: anyone` for a route that needs no token",
        ),
    ),
    (
        "both",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: {all: [USER_READ], any: [USER_DELETE]}}
""",
        ("9:22: `api_key` needs one of `all` and `any`; write one scope, or `{all: [A, B]}`, or `{any: [A, B]}`",),
    ),
    (
        "neither",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: {}}
""",
        ("9:22: `api_key` needs one of `all` and `any`; write one scope, or `{all: [A, B]}`, or `{any: [A, B]}`",),
    ),
    (
        "some",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: {some: [USER_READ]}}
""",
        ("9:23: `api_key` has no key `some`; use `all` or `any`",),
    ),
    (
        "all text",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: {all: USER_READ}}
""",
        ("9:28: `all` must be a list of scopes; write it as `all: [A, B]`",),
    ),
    (
        "dup in list",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: {all: [USER_READ, USER_READ]}}
""",
        ("9:40: `USER_READ` is in this list already; keep one of the two",),
    ),
    (
        "no allow",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
""",
        (
            "6:5: route `users.read` does not say who may call it; add `allow:` with the kinds of token and their scopes, or `allow: anyone`",
        ),
    ),
    (
        "allow empty",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: 
""",
        ("9:5: `allow` says nothing; write its keys below it, each further to the right",),
    ),
    (
        "allow {}",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {}
""",
        ("9:12: `allow` names no kind of token, so nobody may; add one, such as `api_key: SCOPE`",),
    ),
    (
        "allow scope",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: USER_READ
""",
        ("9:12: `allow` does not say which kind of token `USER_READ` is for; write it as `{api_key: USER_READ}`",),
    ),
    (
        "allow public",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: public
""",
        ("9:12: `allow` cannot be `public`; write `allow: anyone` for a route that needs no token",),
    ),
    (
        "allow anyone misspelt",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: anyon
""",
        ("9:12: `allow` cannot be `anyon`; write `allow: anyone` for a route that needs no token",),
    ),
    (
        "allow list",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: [USER_READ]
""",
        ("9:12: `allow` must be made of keys and values; write each as `key: value`",),
    ),
    (
        "api_key null",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: }
""",
        ("9:13: `api_key` has no value; write it as `api_key: USER_READ`",),
    ),
    (
        "no match",
        START
        + """\
  - name: users.read
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("6:5: route `users.read` has no `match`; add its method and path, such as `match: GET /v2/users/{user_id}`",),
    ),
    (
        "no name",
        START
        + """\
  - match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("6:5: this route has no `name`; add one that logs and metrics can show, such as `name: users.read`",),
    ),
    (
        "no upstream",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    allow: {api_key: USER_READ}
""",
        ("6:5: route `users.read` has no `upstream`; add the name of the server behind it, such as `upstream: rest`",),
    ),
    (
        "bad method",
        START
        + """\
  - name: users.read
    match: FETCH /users
    upstream: rest
    allow: {api_key: USER_READ}
""",
        (
            "7:12: `FETCH` is not a method that a route can have; use `DELETE`, `GET`, `OPTIONS`, `PATCH`, `POST` or `PUT`",
        ),
    ),
    (
        "lower method",
        START
        + """\
  - name: users.read
    match: get /users
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: the method `get` is not in capital letters; write `GET`",),
    ),
    (
        "near method",
        START
        + """\
  - name: users.read
    match: DELTE /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `DELTE` is not a method that a route can have; did you mean `DELETE`?",),
    ),
    (
        "head",
        START
        + """\
  - name: users.read
    match: HEAD /users
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `HEAD` has no routes of its own; write `GET`: the same route answers `HEAD`",),
    ),
    (
        "several",
        START
        + """\
  - name: users.read
    match: GET,DELETE /users
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `GET,DELETE` is not one method; write one route for each method, so that each is allowed on purpose",),
    ),
    (
        "several2",
        START
        + """\
  - name: users.read
    match: GET, DELETE /users
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `GET,DELETE` is not one method; write one route for each method, so that each is allowed on purpose",),
    ),
    (
        "any",
        START
        + """\
  - name: users.read
    match: ANY /users
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `ANY` is not one method; write one route for each method, so that each is allowed on purpose",),
    ),
    (
        "star method",
        START
        + """\
  - name: users.read
    match: "* /users"
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `*` is not one method; write one route for each method, so that each is allowed on purpose",),
    ),
    (
        "only path",
        START
        + """\
  - name: users.read
    match: /users
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `/users` is not a method and a path; write them with one space between, as `GET /users`",),
    ),
    (
        "only word",
        START
        + """\
  - name: users.read
    match: users
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `users` is not a method and a path; write them with one space between, as `GET /path`",),
    ),
    (
        "slashless",
        START
        + """\
  - name: users.read
    match: GET users
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: the path `users` does not begin with a slash; write `/users`",),
    ),
    (
        "dots",
        START
        + """\
  - name: users.read
    match: GET /users/../admin
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: the path `/users/../admin` is not in its canonical form; write `/admin`",),
    ),
    (
        "double",
        START
        + """\
  - name: users.read
    match: GET /users//all
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: the path `/users//all` is not in its canonical form; write `/users/all`",),
    ),
    (
        "enc slash",
        START
        + """\
  - name: users.read
    match: GET /users%2Fall
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `%2F` in a path has more than one reading, so such requests are refused; write the path without it",),
    ),
    (
        "enc letter",
        START
        + """\
  - name: users.read
    match: GET /%75sers/%c3%a9
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: the path `/%75sers/%c3%a9` is not in its canonical form; write `/users/%C3%A9`",),
    ),
    (
        "nonascii",
        START
        + """\
  - name: users.read
    match: GET /é
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: the path `/é` is not in its canonical form; write `/%C3%A9`",),
    ),
    (
        "bad triplet",
        START
        + """\
  - name: users.read
    match: GET /a%zz
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: a `%` stands without two hexadecimal digits; take it out, or complete it",),
    ),
    (
        "semicolon",
        START
        + """\
  - name: users.read
    match: GET /users;v=1
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: the path `/users;v=1` is not in its canonical form; write `/users`",),
    ),
    (
        "query",
        START
        + """\
  - name: users.read
    match: GET /users?all=1
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: a route matches the path alone, without a query; write `/users`",),
    ),
    (
        "star",
        START
        + """\
  - name: users.read
    match: GET /users/*
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `*` is not a wildcard; write a parameter such as `{id}`; it stands for one segment",),
    ),
    (
        "colon param",
        START
        + """\
  - name: users.read
    match: GET /users/:userId
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `:userId` is not how a parameter is written; write `{user_id}`",),
    ),
    (
        "angle",
        START
        + """\
  - name: users.read
    match: GET /users/<id>
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `<id>` is not how a parameter is written; write `{id}`",),
    ),
    (
        "dash",
        START
        + """\
  - name: users.read
    match: GET /users/{user-id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `{user-id}` is not how a parameter is written; write `{user_id}`",),
    ),
    (
        "mixed",
        START
        + """\
  - name: users.read
    match: GET /users/u-{id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        (
            "7:12: `u-{id}` mixes a parameter with other characters; let a parameter be a whole segment, such as `{user_id}`",
        ),
    ),
    (
        "empty param",
        START
        + """\
  - name: users.read
    match: GET /users/{}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: `{}` is a parameter without a name; name it, such as `{user_id}`",),
    ),
    (
        "twice param",
        START
        + """\
  - name: users.read
    match: GET /a/{id}/b/{id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("7:12: the path has the parameter `{id}` twice; give each parameter its own name",),
    ),
    (
        "long",
        START
        + f"""\
  - name: users.read
    match: GET /{"a" * 2000}
    upstream: rest
    allow: {{api_key: USER_READ}}
""",
        ("7:12: the path is longer than 2000 characters; shorten it: no request could match it",),
    ),
    (
        "dup name",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
  - name: users.read
    match: GET /people/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("10:11: the name `users.read` belongs to another route, on line 6; give each route its own name",),
    ),
    (
        "same pattern",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
  - name: users.any
    match: GET /users/{id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        (
            "11:12: route `users.any` can never be reached: route `users.read`, on line 7, matches `GET /users/id` and all else that it does; remove one of the two, or change its path",
        ),
    ),
    (
        "equal rank",
        START
        + """\
  - name: users.read
    match: GET /a/{x}/c
    upstream: rest
    allow: {api_key: USER_READ}
  - name: b
    match: GET /a/b/{y}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        (
            "11:12: route `b` and route `users.read`, on line 7, both match `GET /a/b/c`, and neither is narrower; make one narrower",
        ),
    ),
    (
        "exact twice",
        START
        + """\
  - name: users.read
    match: GET /a
    upstream: rest
    allow: {api_key: USER_READ}
  - name: b
    match: GET /a
    upstream: rest
    allow: {api_key: USER_READ}
""",
        (
            "11:12: route `b` can never be reached: route `users.read`, on line 7, matches `GET /a` and all else that it does; remove one of the two, or change its path",
        ),
    ),
    (
        "gql bypass",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.user: {api_key: USER_READ}}}
  - name: x
    match: GET /{any}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        (
            "11:12: route `x` shares a path with route `users.read`, on line 7: `GET /graphql` would pass without its GraphQL fields being read; keep the path for the GraphQL route alone",
        ),
    ),
    (
        "gql bypass2",
        START
        + """\
  - name: x
    match: POST /graphql
    upstream: rest
    allow: {api_key: USER_READ}
  - name: users.read
    match: POST /{any}
    upstream: gql
    graphql: {fields: {Query.user: {api_key: USER_READ}}}
""",
        (
            "11:12: route `users.read` shares a path with route `x`, on line 7: `POST /graphql` would pass without its GraphQL fields being read; keep the path for the GraphQL route alone",
        ),
    ),
    (
        "unknown scope",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_RAED}
""",
        ("9:22: there is no scope `USER_RAED`; did you mean `USER_READ`?",),
    ),
    (
        "unknown scope none",
        """\
version: 1
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        (
            "6:22: there is no scope `USER_READ`; declare it under `scopes:`, as in `USER_READ: {means: what it is for}`",
        ),
    ),
    (
        "alias collide",
        """\
version: 1
scopes:
  A: {means: a, aliases: [B]}
  B: {means: b}
routes:
  - {name: a, match: GET /a, upstream: rest, allow: {api_key: {all: [A, B]}}}
""",
        ("3:27: the alias `B` is the name of a scope, on line 4; take the alias out, or choose another spelling",),
    ),
    (
        "alias twice",
        """\
version: 1
scopes:
  A: {means: a, aliases: [x]}
  B: {means: b, aliases: [x]}
routes:
  - {name: a, match: GET /a, upstream: rest, allow: {api_key: {all: [A, B]}}}
""",
        ("4:27: the alias `x` belongs to another scope, on line 3; let it mean one scope only",),
    ),
    (
        "unknown kind",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {apikey: USER_READ}
""",
        ("9:13: `allow` has no key `apikey`; did you mean `api_key`?",),
    ),
    (
        "legacy kind",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {legacy_key: USER_READ}
""",
        ("9:13: `allow` has no key `legacy_key`; write `api_key`, which covers the legacy keys as well",),
    ),
    (
        "weird kind",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {robot: USER_READ}
""",
        ("9:13: `allow` has no key `robot`; use `api_key` or `user_token`",),
    ),
    (
        "unknown error",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    errors: problm
""",
        ("10:13: `problm` is not a value of `errors`; did you mean `problem`?",),
    ),
    (
        "unknown error2",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    errors: html
""",
        (
            "10:13: `html` is not a value of `errors`; use `problem`, `platform`, `graphql`, `graphql/draft-2026`, `graphql/2023` or `graphql/legacy-200`",
        ),
    ),
    (
        "graphql errors on rest",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    errors: graphql
""",
        ("10:13: route `users.read` is not a GraphQL route; use `problem` or `platform`, or add `graphql:`",),
    ),
    (
        "top errors graphql",
        """\
errors: graphql
version: 1
scopes:
  USER_READ: {means: read users, aliases: [user.read]}
  USER_DELETE: {means: delete users}
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("1:9: requests that match no route are not GraphQL; use `problem` or `platform`",),
    ),
    (
        "query.user",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {query.user: {api_key: USER_READ}}}
""",
        ("9:24: `query.user` does not begin with `Query` or `Mutation`; did you mean `Query.user`?",),
    ),
    (
        "user",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {user: {api_key: USER_READ}}}
""",
        ("9:24: `user` does not say whether it is a query or a mutation; write `Query.user` or `Mutation.user`",),
    ),
    (
        "type",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.user: {api_key: USER_READ}, OffloadFile.link: {api_key: USER_READ}}}
""",
        (
            "9:58: `OffloadFile.link` names a field by its type, which only a schema could tell; write the path from the root, such as `Query.offloads.files.link`",
        ),
    ),
    (
        "subscr",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Subscription.user: {api_key: USER_READ}}}
""",
        ("9:24: subscriptions are not served; take this rule out",),
    ),
    (
        "wild",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {"Query.*": {api_key: USER_READ}}}
""",
        ("9:24: `Query.*` has a wildcard, and there are none; name each field that is allowed",),
    ),
    (
        "notgql",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {"Query.a-b": {api_key: USER_READ}}}
""",
        ("9:24: `Query.a-b` is not a GraphQL field; write a path such as `Query.user`",),
    ),
    (
        "schema",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.__schema: {api_key: USER_READ}}}
""",
        ("9:24: `Query.__schema` is introspection; write the rule as `introspection:`, beside `fields`",),
    ),
    (
        "typename",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.__typename: {api_key: USER_READ}}}
""",
        ("9:24: `__typename` needs no rule: it is free; take this rule out",),
    ),
    (
        "unreach path",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.offloads.link: {api_key: USER_READ}}}
""",
        (
            "9:24: `Query.offloads.link` can never be reached, because `Query.offloads` has no rule and is refused; add a rule for `Query.offloads`",
        ),
    ),
    (
        "field anyone",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.user: anyone}}
""",
        ("9:36: `Query.user` cannot be for anyone; name the kinds of token that may, such as `api_key: SCOPE`",),
    ),
    (
        "field text",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.user: USER_READ}}
""",
        ("9:36: `Query.user` does not say which kind of token `USER_READ` is for; write it as `{api_key: USER_READ}`",),
    ),
    (
        "gql get",
        START
        + """\
  - name: users.read
    match: GET /graphql
    upstream: gql
    graphql: {fields: {Query.user: {api_key: USER_READ}}}
""",
        (
            "7:12: route `users.read` has `graphql` and the method `GET`, but GraphQL is served by `POST` alone; write `POST /graphql`",
        ),
    ),
    (
        "gql nofields",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {introspection: {api_key: USER_READ}}
""",
        (
            "9:14: route `users.read` names no GraphQL fields, so nobody may do anything; add `fields:` with rules such as `Query.user: {api_key: USER_READ}`",
        ),
    ),
    (
        "gql emptyfields",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {}}
""",
        (
            "9:23: route `users.read` names no GraphQL fields, so nobody may do anything; add rules such as `Query.user: {api_key: USER_READ}`",
        ),
    ),
    (
        "gql null",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: 
""",
        ("9:5: `graphql` of route `users.read` says nothing; write its keys below it, each further to the right",),
    ),
    (
        "gql allow",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    allow: {api_key: USER_READ}
    graphql: {fields: {Query.user: {api_key: USER_READ}}}
""",
        (
            "9:5: route `users.read` is a GraphQL route, and its fields say who may; move the rule to each field below `graphql`",
        ),
    ),
    (
        "gql limits",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.user: {api_key: USER_READ}}, limits: {depht: 3, aliases: 0, tokens: many, directives: [1]}}
""",
        (
            "9:68: `limits` has no key `depht`; did you mean `depth`?",
            "9:87: `aliases` must be a whole number from 1 to 1000, but is `0`; write it in digits, such as `aliases: 10`",
            "9:98: `tokens` must be a whole number from 1 to 20000, but is `many`; write it in digits, such as `tokens: 10`",
            "9:116: `directives` must be a whole number from 1 to 1000; write it in digits, such as `directives: 10`",
        ),
    ),
    (
        "gql body",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.user: {api_key: USER_READ}}}
    body: refused
""",
        ("10:11: a GraphQL route reads its body; take `body: refused` out",),
    ),
    (
        "gql bodylimit",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.user: {api_key: USER_READ}}}
    body_limit: 1GiB
""",
        ("10:17: a GraphQL body is held in memory, so its limit is at most `16MiB`; write a smaller `body_limit`",),
    ),
    (
        "upstream url",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: http://10.0.0.1:8080
    allow: {api_key: USER_READ}
""",
        (
            "8:15: an upstream is named here, not located; write a name such as `rest`, and give its address to the gateway when it starts",
        ),
    ),
    (
        "upstream host",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: api.example.com
    allow: {api_key: USER_READ}
""",
        (
            "8:15: an upstream is named here, not located; write a name such as `rest`, and give its address to the gateway when it starts",
        ),
    ),
    (
        "upstream caps",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: Rest
    allow: {api_key: USER_READ}
""",
        ("8:15: `Rest` cannot be the name of an upstream; use small letters, digits, `_` and `-`, such as `rest`",),
    ),
    (
        "secret",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: e5c3b842231543f.mGCUhfi0uI4J13k010V49D2GaBZ3j1E708X4a4396XNx48X3
    allow: {api_key: USER_READ}
""",
        (
            "8:15: this looks like a token, a key or a password; take it out: a policy holds no secrets, and revoke it if it is real",
        ),
    ),
    (
        "secret key",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    mGCUhfi0uI4J13k.mGCUhfi0uI4J13k010V49D2GaBZ3j1E708X4a4396XNx48X3: x
""",
        (
            "10:5: this looks like a token, a key or a password; take it out: a policy holds no secrets, and revoke it if it is real",
        ),
    ),
    (
        "env",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: ${UPSTREAM}
    allow: {api_key: USER_READ}
""",
        (
            "8:15: `${UPSTREAM}` cannot be the name of an upstream; use small letters, digits, `_` and `-`, such as `rest`",
            "8:15: `${` is not filled in from the environment; write the value itself",
        ),
    ),
    (
        "empty routes",
        """\
version: 1
scopes:
  USER_READ: {means: read users, aliases: [user.read]}
  USER_DELETE: {means: delete users}
routes: []
""",
        ("1:1: the policy has no routes, so every request would be refused; add `routes:` with at least one",),
    ),
    (
        "no routes",
        """\
version: 1
scopes:
  USER_READ: {means: read users, aliases: [user.read]}
  USER_DELETE: {means: delete users}
""",
        ("1:1: the policy has no routes, so every request would be refused; add `routes:` with at least one",),
    ),
    (
        "routes mapping",
        START
        + """\
  users: {}
""",
        ("5:1: `routes` must be a list; begin each route with a dash, as in `- name: users.read`",),
    ),
    (
        "scopes list",
        """\
version: 1
scopes: [A]
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: anyone
""",
        ("2:9: `scopes` must be made of keys and values; write each as `key: value`",),
    ),
    (
        "scope name",
        """\
version: 1
scopes: {"9 lives": {means: a}}
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: anyone
""",
        (
            "2:10: `9 lives` cannot be the name of a scope; use letters, digits and `_ . : -`, beginning with a letter, such as `USER_READ`",
        ),
    ),
    (
        "scope nothing",
        """\
version: 1
scopes:
  A:
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: anyone
""",
        ("3:3: scope `A` says nothing; write its keys below it, each further to the right",),
    ),
    (
        "scope fields",
        """\
version: 1
scopes:
  A: {description: x, aliases: x, sensitive: yes, only_for: Big App}
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: anyone
""",
        (
            "3:7: scope `A` has no key `description`; write `means`",
            "3:32: `aliases` must be a list of older spellings; write it as `aliases: [user.read]`, or leave it out",
            "3:46: `sensitive` must be true or false, but is `yes`; write `sensitive: true`, or leave it out",
            "3:61: `only_for` cannot be `Big App`; name a feature of Apps in small letters, such as `engagement`",
        ),
    ),
    (
        "scope alias bad",
        """\
version: 1
scopes:
  A: {means: x, aliases: ["a b"], sensitive: [1]}
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: anyone
""",
        (
            "3:27: `a b` cannot be an alias of a scope; use letters, digits and `_ . : -`, beginning with a letter, such as `user.read`",
            "3:46: `sensitive` must be true or false; write `sensitive: true`, or leave it out",
        ),
    ),
    (
        "route text",
        START
        + """\
  - users
""",
        ("6:5: this route must be made of keys and values; write each as `key: value`",),
    ),
    (
        "bad name",
        START
        + """\
  - name: Users Read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        (
            "6:11: `name` cannot be `Users Read`; use small letters, digits and `_`, in parts joined by dots, such as `users.read`",
        ),
    ),
    (
        "reserved",
        START
        + """\
  - name: unmatched
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("6:11: `unmatched` is what metrics call requests without a route; choose another name",),
    ),
    (
        "name list",
        START
        + """\
  - name: [a]
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        ("6:11: `name` is a list, but one text is needed; write it as `name: users.read`",),
    ),
    (
        "means map",
        """\
version: 1
scopes:
  A: {means: {a: b}}
  B: {means: ' '}
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: anyone
""",
        (
            "3:14: `means` is a mapping, but one text is needed; write it as `means: read user data`",
            "4:14: `means` is empty; write it as `means: read user data`",
        ),
    ),
    (
        "deprecated empty",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    deprecated: {}
""",
        (
            "10:17: `deprecated` says nothing; add `sunset`, the day on which the route ends, such as `sunset: 2027-06-30`",
        ),
    ),
    (
        "deprecated text",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    deprecated: yes
""",
        ("10:17: `deprecated` must be made of keys and values; write each as `key: value`",),
    ),
    (
        "deprecated stuff",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    deprecated: {sunset: soon, since: 2027-02-30, link: docs, replacement: users.raed}
""",
        (
            "10:26: `sunset` must be a date, but is `soon`; write year, month and day, such as `sunset: 2027-06-30`",
            "10:39: `2027-02-30` is not a day of the calendar; correct the month or the day",
            "10:57: `link` cannot be `docs`; write a whole address, such as `https://docs.example.com/moving`",
            "10:76: there is no route `users.raed`; did you mean `users.read`?",
        ),
    ),
    (
        "deprecated order",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    deprecated: {sunset: 2026-01-01, since: 2027-01-01, replacement: [x]}
""",
        (
            "10:26: the route ends before it is deprecated; let `sunset` be later than `since`",
            "10:70: `replacement` is a list, but one text is needed; write it as `replacement: users.v3`",
        ),
    ),
    (
        "day list",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    deprecated: {sunset: [x], link: [y]}
""",
        (
            "10:26: `sunset` must be a date; write year, month and day, such as `sunset: 2027-06-30`",
            "10:37: `link` is a list, but one text is needed; write it as `link: https://docs.example.com/moving`",
        ),
    ),
    (
        "body",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    body: maybe
""",
        ("10:11: `maybe` is not a value of `body`; use `allowed` or `refused`",),
    ),
    (
        "body list",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    body: [x]
""",
        ("10:11: `body` is a list, but one text is needed; write it as `body: allowed`",),
    ),
    (
        "body_limit",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    body_limit: 10MB
    body: allowed
""",
        (
            "10:17: `body_limit` must be a size, but is `10MB`; write a number with one of the units `B`, `KiB`, `MiB` or `GiB`, such as `body_limit: 10MiB`",
        ),
    ),
    (
        "body_limit list",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    body_limit: [x]
    body: allowed
""",
        (
            "10:17: `body_limit` must be a size; write a number with one of the units `B`, `KiB`, `MiB` or `GiB`, such as `body_limit: 10MiB`",
        ),
    ),
    (
        "body_limit refused",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    body_limit: 10MiB
""",
        (
            "10:5: a `GET` route takes no body, so it has no use for a limit; take `body_limit` out, or add `body: allowed`",
        ),
    ),
    (
        "subject",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {user_token: {subject: path.id}}
""",
        ("9:35: the path has no parameter `id`; use `path.user_id`",),
    ),
    (
        "subject none",
        START
        + """\
  - name: users.read
    match: GET /users
    upstream: rest
    allow: {user_token: {subject: path.id}}
""",
        ("9:35: the path has no parameter `id`; add the parameter to `match`, such as `/users/{user_id}`",),
    ),
    (
        "subject word",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {user_token: {subject: user_id}}
""",
        (
            "9:35: `user_id` does not say where the user's id stands; write `path.NAME` or `query.NAME`, such as `subject: path.user_id`",
        ),
    ),
    (
        "subject args",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {user_token: {subject: args.id}}
""",
        (
            "9:35: `args.id` does not say where the user's id stands; write `path.NAME` or `query.NAME`, such as `subject: path.user_id`",
        ),
    ),
    (
        "user text",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {user_token: x}
""",
        ("9:25: `user_token` must be made of keys and values; write each as `key: value`",),
    ),
    (
        "user key",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {user_token: {path: user_id}}
""",
        ("9:26: `user_token` has no key `path`; write `subject`, such as `subject: path.user_id`",),
    ),
    (
        "subject list",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {user_token: {subject: [x]}}
""",
        ("9:35: `subject` is a list, but one text is needed; write it as `subject: path.user_id`",),
    ),
    (
        "gql subject",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.user: {user_token: {subject: path.id}}}}
""",
        (
            "9:59: `path.id` does not say where the user's id stands; write `args.NAME` or `variables.NAME`, such as `subject: args.user_id`",
        ),
    ),
    (
        "file list",
        """\
- a
""",
        ("1:1: a policy file must be made of keys and values; write each as `key: value`",),
    ),
    (
        "file text",
        """\
hello
""",
        ("1:1: a policy file must be made of keys and values; write each as `key: value`",),
    ),
    (
        "many",
        """\
version: 1
routes:
  - nam: x
    match: GET x
    allow: {}
""",
        (
            "3:5: this route has no `upstream`; add the name of the server behind it, such as `upstream: rest`",
            "3:5: this route has no key `nam`; did you mean `name`?",
            "4:12: the path `x` does not begin with a slash; write `/x`",
            "5:12: `allow` names no kind of token, so nobody may; add one, such as `api_key: SCOPE`",
        ),
    ),
    (
        "on: yes",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    on: yes
""",
        (
            "10:5: route `users.read` has no key `on`; use `name`, `match`, `upstream`, `allow`, `graphql`, `errors`, `deprecated`, `body` or `body_limit`",
        ),
    ),
    (
        "token in path",
        START
        + """\
  - name: users.read
    match: GET /users/e5c3b842231543f.mGCUhfi0uI4J13k010V49D2GaBZ3j1E708X4a4396XNx48X3
    upstream: rest
    allow: {api_key: USER_READ}
""",
        (
            "7:12: this looks like a token, a key or a password; take it out: a policy holds no secrets, and revoke it if it is real",
        ),
    ),
    (
        "token as flag",
        """\
version: 1
scopes:
  A: {means: x, sensitive: e5c3b842284045d98ed042814f31543f}
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: anyone
""",
        (
            "3:28: `sensitive` must be true or false; write `sensitive: true`, or leave it out",
            "3:28: this looks like a token, a key or a password; take it out: a policy holds no secrets, and revoke it if it is real",
        ),
    ),
    (
        "gql anyone key",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {anyone: true}
""",
        ("9:13: `allow` has no key `anyone`; write `allow: anyone`, without kinds of token",),
    ),
    (
        "allow ~",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: ~
""",
        ("9:12: `allow` says nothing; write its keys below it, each further to the right",),
    ),
    (
        "quoted version",
        """\
version: "1"
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: anyone
""",
        ("1:10: `version` must be the number 1; write `version: 1`",),
    ),
    (
        "deprecated far replacement",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    deprecated: {replacement: zzz}
""",
        ("10:31: there is no route `zzz`; use `users.read`",),
    ),
    (
        "fields text",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: x}
""",
        ("9:23: `fields` of route `users.read` must be made of keys and values; write each as `key: value`",),
    ),
    (
        "limits text",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.user: {api_key: USER_READ}}, limits: x}
""",
        ("9:67: `limits` must be made of keys and values; write each as `key: value`",),
    ),
    (
        "introspection",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.user: {api_key: USER_READ}}, introspection: anyone}
""",
        ("9:74: `introspection` cannot be for anyone; name the kinds of token that may, such as `api_key: SCOPE`",),
    ),
    (
        "gql errors bad",
        START
        + """\
  - name: users.read
    match: POST /graphql
    upstream: gql
    graphql: {fields: {Query.user: {api_key: USER_READ}}}
    errors: graphql/2019
""",
        ("10:13: `graphql/2019` is not a value of `errors`; did you mean `graphql/2023`?",),
    ),
    (
        "top errors bad",
        """\
errors: xml
version: 1
scopes:
  USER_READ: {means: read users, aliases: [user.read]}
  USER_DELETE: {means: delete users}
routes:
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
""",
        (
            "1:9: `xml` is not a value of `errors`; use `problem`, `platform`, `graphql`, `graphql/draft-2026`, `graphql/2023` or `graphql/legacy-200`",
        ),
    ),
    (
        "only sunset key",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    sunset: 2027-01-01
""",
        ("10:5: route `users.read` has no key `sunset`; write it below `deprecated`",),
    ),
    (
        "twice dup secret key",
        START
        + """\
  - name: users.read
    match: GET /users/{user_id}
    upstream: rest
    allow: {api_key: USER_READ}
    e5c3b842284045d98ed042814f31543f: x
    e5c3b842284045d98ed042814f31543f: y
""",
        (
            "10:5: this looks like a token, a key or a password; take it out: a policy holds no secrets, and revoke it if it is real",
            "11:5: a key is here already, on line 10; keep one of the two",
            "11:5: this looks like a token, a key or a password; take it out: a policy holds no secrets, and revoke it if it is real",
        ),
    ),
    (
        "no such method at all, long",
        START
        + """\
  - name: users.read
    match: GET /users extra words
    upstream: rest
    allow: {api_key: USER_READ}
""",
        (
            "7:12: `GET /users extra words` is not a method and a path; write them with one space between, as `GET /path`",
        ),
    ),
)


@pytest.mark.parametrize(("text", "expected"), [pytest.param(text, told, id=name) for name, text, told in WRONG])
def test_a_wrong_policy_is_refused_with_these_words(text: str, expected: tuple[str, ...]) -> None:
    with pytest.raises(PolicyInvalid) as refused:
        compile_texts([("p.yaml", text.encode())])

    assert expected == tuple(str(fault).removeprefix("p.yaml:") for fault in refused.value.faults)


@pytest.mark.parametrize(("text", "told"), [pytest.param(text, told, id=name) for name, text, told in WRONG])
def test_what_is_told_is_short_lower_case_and_never_a_secret(text: str, told: tuple[str, ...]) -> None:
    for message in told:
        _, _, sentence = message.split(":", 2)
        what, todo = sentence.strip().split("; ", 1)

        assert not what[0].isupper()
        assert not todo[0].isupper()
        assert not message.endswith(".")
        assert len(message) < 260
        assert "mGCUhfi0uI4J" not in message
        assert "e5c3b8422" not in message


def test_the_names_of_the_wrong_policies_are_unique() -> None:
    assert len({name for name, _, _ in WRONG}) == len(WRONG)


def test_all_faults_of_all_files_come_at_once_in_order_of_place() -> None:
    first = b"version: 1\nroutes:\n  - {name: a, match: get /a, upstream: rest, allow: anyone}\n"
    second = b"version: 2\nroutes:\n  - {name: b, match: GET b, upstream: rest, allow: anyone}\n"

    with pytest.raises(PolicyInvalid) as refused:
        compile_texts([("b.yaml", second), ("a.yaml", first)])

    assert [
        "a.yaml:3:23: the method `get` is not in capital letters; write `GET`",
        "b.yaml:1:10: version 2 of the policy language is newer than this gateway; write `version: 1`, "
        "or upgrade the gateway",
        "b.yaml:3:23: the path `b` does not begin with a slash; write `/b`",
    ] == str(refused.value).splitlines()


def test_names_that_collide_across_files_say_where_the_other_one_stands() -> None:
    text = b"version: 1\nerrors: problem\nscopes:\n  A: {means: a}\nroutes:\n  - {name: a, match: GET /a, upstream: rest, allow: {api_key: A}}\n"

    with pytest.raises(PolicyInvalid) as refused:
        compile_texts([("a.yaml", text), ("b.yaml", text)])

    assert [
        "b.yaml:2:9: `errors` is said already, in a.yaml on line 2; keep one of the two",
        "b.yaml:4:3: scope `A` is declared already, in a.yaml on line 4; keep one of the two",
        "b.yaml:6:12: the name `a` belongs to another route, in a.yaml on line 6; give each route its own name",
        "b.yaml:6:22: route `a` can never be reached: route `a`, in a.yaml on line 6, matches `GET /a` and all else "
        "that it does; remove one of the two, or change its path",
    ] == str(refused.value).splitlines()
