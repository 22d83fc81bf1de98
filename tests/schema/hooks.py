"""What schemathesis has to know of the broker beside its description: some answers never end, and some bodies are lines."""

import schemathesis

# Streams never end. `raw` has no body where there is nothing, which a description can't say.
FORMATS = ("sse", "ndjson", "raw")


@schemathesis.hook
def before_call(_context, case, **_kwargs):
    """Nothing waits."""
    for name in [name for name in case.headers or {} if name.lower() == "prefer"]:
        del case.headers[name]
    query = case.query or {}
    for name in [name for name in query if name == "wait" or name == "format" and query[name] in FORMATS]:
        del query[name]


@schemathesis.serializer("application/x-ndjson", "application/ndjson")
def lines(_context, value):
    return value.encode() if isinstance(value, str) else str(value).encode()
