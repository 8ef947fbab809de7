# The answer to one question: data.deputy.decision, in the form of schemas/result.json.
#
# - Deny is what is left when nothing else was said; an allow needs every part of `granted`.
# - Each part of `granted` that fails has a reason in reasons.rego. Effect and reasons are read from the same rules.
# - Only constructs on which regorus and OPA agree: no default functions, no nested heads, no function or builtin
#   that may be undefined except as a condition, and no loop (`some … in`) in a body that an `else` follows.
# - Nothing walks over data: keyed lookups only. Loops run over the question's own lists and the limits of one tool.
package deputy

classes := ["destroy", "read", "write"]

decision := {"effect": "allow", "reasons": [], "obligations": obligations} if {
	understood
	granted
	not approval_needed
} else := {"effect": "approve", "reasons": reasons, "obligations": {}} if {
	understood
	granted
} else := {"effect": "deny", "reasons": reasons, "obligations": challenge} if {
	understood
	readable
	count(reasons) > 0
} else := {
	"effect": "deny",
	"reasons": [refusal("DPT-DENIED", "granted", "no rule allows this", "an operator grants it in grants.yaml")],
	"obligations": {},
} if {
	understood
	readable
} else := {
	"effect": "deny",
	"reasons": [refusal(
		"DPT-POLICY-SHAPE",
		"understood",
		"the policy cannot read this question",
		"an operator compares it with deputy.input/v1",
	)],
	"obligations": {},
}

# The presenter heads the chain. Without one, "every agent of the chain may" would be true of nobody.
understood if {
	input.version == "deputy.input/v1"
	input.chain[0].name == input.agent.name
}

granted if {
	input.phase == "check"
	permitted
	arguments_within
	payload_passes
} else if {
	input.phase == "exchange"
	count(authority) > 0
	human_named
} else if {
	input.phase == "task"
	human_named
	human_known
	agents_known
	tier_known
}

# All but what one call brings along.
permitted if {
	count(authority) > 0
	human_named
	scope_held
	binding_strong
}

# The broker gives a token no more scope than human and chain have in common on the service. A class that a person
# must still approve is part of it: the approval is asked for call by call.
obligations := {"scopes": needed_scopes} if {
	input.phase == "exchange"
} else := {}
