"""What the flow answered, as AuthZEN says it.

- A denial is 200 with `decision: false`; its context has the reason code, a sentence, and the id under which
  everything else is recorded.
- An allow has the transaction token that the gateway sends upstream in place of the credential; where the
  service is outside there is none, and the gateway sends nothing in its place.
"""

from authz.codes import Code, find_code
from authz.outside import TRANSACTION_HEADER
from authz.pb import ext_authz_pb2 as pb

_OK = 0


def answer_of(data: bytes) -> dict[str, object]:
    """Return the AuthZEN form of a CheckResponse of ours."""
    response = pb.CheckResponse.FromString(data)
    said = {name: value.string_value for name, value in response.dynamic_metadata.fields.items()}
    context: dict[str, object] = {"decision_id": said.get("decision_id", "")}
    if response.status.code == _OK and response.HasField("ok_response"):
        tokens = [
            option.header.value or option.header.raw_value.decode("ascii")
            for option in response.ok_response.headers
            if option.header.key == TRANSACTION_HEADER
        ]
        return {"decision": True, "context": {**context, **({"txn_token": tokens[0]} if tokens else {})}}
    code = said.get("reason", Code.INTERNAL.value)
    known = find_code(code) or Code.DENIED
    context["reason"] = {"code": code, "message": known.sentence, "fix": known.fix}
    return {"decision": False, "context": context}


def broken(message: str) -> dict[str, object]:
    """Return the answer to an item of a batch that is no evaluation."""
    return {"decision": False, "context": {"error": {"status": 400, "message": message}}}
