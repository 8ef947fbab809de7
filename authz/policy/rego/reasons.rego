# Why not: every part that fails, the main reason first.
#
# - A failure is [precedence, which, 0 for the agent or 1 for the operator, reason]; a set is read in order, and the
#   first three settle it: how two objects compare, the engines need not agree on.
# - What an agent reads names what was refused to it. Tiers, limits and other agents are for the operator.
# - A word that comes from the caller (a tool's name) stands only where the inspector has bounded it.
package deputy

reasons := [failure[3] | some failure in failures]

# Only when a wider token alone would help, for a client answers this by asking its person to sign in again.
challenge := {"needed_scopes": needed_scopes} if {
	count(reasons) == 1
	reasons[0].code == "DPT-SCOPE-MISSING"
} else := {}

refusal(code, rule, msg, fix) := {"code": code, "rule": rule, "msg": msg, "fix": fix, "audience": "agent"}

detail(code, rule, msg, fix) := {"code": code, "rule": rule, "msg": msg, "fix": fix, "audience": "operator"}

# Every part of a sentence is text; without this a sentence could be undefined, which the engines read differently.
readable if {
	is_string(input.agent.name)
	is_string(input.action.method)
	is_string(input.resource.service)
	is_string(input.resource.name)
	every hop in input.chain {
		is_string(hop.name)
		is_string(hop.ceiling)
	}
}

# "write on billing"
extent := concat(" ", [operation.class, "on", input.resource.service]) if {
	operation
} else := concat(" ", ["anything on", input.resource.service])

subject := concat("", ["the tool ", input.resource.name]) if {
	input.resource.type == "tool"
} else := concat("", ["the method ", input.action.method]) if {
	input.action.protocol in ["mcp", "a2a"]
} else := concat("", ["the model ", input.resource.name]) if {
	input.resource.type == "model"
	service.models[input.resource.name]
} else := concat("", ["the method ", input.resource.name]) if {
	input.resource.type == "rpc"
	service.grpc[input.resource.name]
} else := "this model" if {
	input.resource.type == "model"
} else := "this method on this path"

failures contains [10, 0, 0, refusal(
	"DPT-SERVICE-UNKNOWN",
	"service",
	concat("", ["the service ", input.resource.service, " is not listed"]),
	"an operator lists the service with what it offers in grants.yaml",
)] if {
	input.phase != "task"
	not service
}

failures contains [20, 0, 0, refusal(
	"DPT-TOOL-UNKNOWN",
	"operation",
	concat("", [subject, " is not listed for ", input.resource.service]),
	"an operator lists it with its class in grants.yaml",
)] if {
	calls
	service
	not operation
}

failures contains [30, 0, 0, refusal(
	"DPT-HUMAN-REQUIRED",
	"human_named",
	"this is only done for a person, and none is named",
	"a person starts a task of this agent, and the call is made in that task",
)] if {
	not human_named
}

failures contains [40, 0, 0, refusal(
	"DPT-HUMAN-NOT-GRANTED",
	"human_has",
	concat("", ["the person has no grant of ", extent, ", so nobody may do it for them"]),
	concat("", ["an operator grants ", extent, " to one of the person's groups in grants.yaml"]),
)] if {
	count(wanted) > 0
	count(human_classes) == 0
}

failures contains [40, 0, 0, refusal(
	"DPT-HUMAN-NOT-GRANTED",
	"human_known",
	"the person is in no group that is granted anything",
	"an operator grants something to one of the person's groups in grants.yaml",
)] if {
	input.phase == "task"
	not human_known
}

failures contains [50, 0, 0, refusal(
	"DPT-AGENT-NOT-GRANTED",
	"hop_has",
	concat("", ["the agent ", input.agent.name, " is not granted ", input.resource.service]),
	concat("", ["an operator adds ", input.resource.service, " to the agent's services in grants.yaml"]),
)] if {
	input.phase != "task"
	service
	not presenter.services[input.resource.service]
}

failures contains [50, 0, 0, refusal(
	"DPT-AGENT-NOT-GRANTED",
	"agents_known",
	concat("", ["the agent ", input.agent.name, " is granted nothing"]),
	"an operator adds the agent to grants.yaml",
)] if {
	input.phase == "task"
	not presenter
}

failures contains [60, 0, 0, refusal(
	"DPT-AGENT-TIER",
	"hop_has",
	concat("", ["the agent ", input.agent.name, " does not reach ", extent]),
	"use an agent that reaches it, or the owner of this one asks an operator to let it reach further",
)] if {
	presenter_short
}

failures contains [60, 0, 1, detail(
	"DPT-AGENT-TIER",
	"hop_has",
	concat("", [
		"the agent ", input.agent.name, " has the tier ", presenter.tier,
		" in the grants and the ceiling ", input.chain[0].ceiling, " in the registry",
	]),
	concat("", ["give it a tier and a ceiling that both allow ", extent]),
)] if {
	presenter_short
	is_string(presenter.tier)
	is_string(input.chain[0].ceiling)
}

failures contains [70, 0, 0, refusal(
	"DPT-CHAIN-NARROWED",
	"chain_has",
	concat("", ["an agent of the chain does not reach ", extent, ", and delegating adds no rights"]),
	"the person lets an agent that may do it act for them directly: 'deputy grants create'",
)] if {
	chain_short
}

failures contains [70, 0, 1, detail(
	"DPT-CHAIN-NARROWED",
	"chain_has",
	concat("", ["the chain is narrowed by ", concat(", ", narrowing)]),
	concat("", ["give these agents a tier and a ceiling that both allow ", extent]),
)] if {
	chain_short
	count(narrowing) > 0
}

failures contains [80, 0, 0, refusal(
	"DPT-SCOPE-MISSING",
	"scope_held",
	concat("", ["the token has no scope for ", extent]),
	concat("", [
		"get a token for ", extent, " at the broker; the person lets the agent have one: 'deputy grants create'",
	]),
)] if {
	input.phase == "check"
	count(wanted) > 0
	not scope_held
	not scope_fits
}

failures contains [90, limit.pointer, 0, refusal(
	"DPT-ARGUMENT-LIMIT",
	"within",
	concat("", ["the argument ", limit.pointer, " of ", subject, " is outside its limit"]),
	concat("", ["keep ", limit.pointer, " within its limit, or an operator changes the limit in grants.yaml"]),
)] if {
	some limit in exceeded
	is_string(limit.pointer)
}

failures contains [91, i, 1, detail(
	"DPT-ARGUMENT-LIMIT",
	"within",
	concat("", ["the argument ", limit.pointer, " must be ", limit.text]),
	concat("", ["change the limit of ", limit.pointer, " in grants.yaml"]),
)] if {
	some i, limit in exceeded
	is_string(limit.pointer)
	is_string(limit.text)
}

failures contains [95, class, 0, refusal(
	"DPT-PAYLOAD",
	"payload_passes",
	concat("", [
		"what is sent holds data of the class ", class, ", which may not go to ", input.resource.service,
	]),
	concat("", ["leave it out, or an operator changes what may go to ", input.resource.service, " in grants.yaml"]),
)] if {
	input.phase == "check"
	some class in withheld
	is_string(class)
}

failures contains [100, 0, 0, refusal(
	"DPT-BINDING-WEAK",
	"binding_strong",
	concat("", [subject, " destroys, and the token is not bound to the agent's own key"]),
	"whoever runs the agent connects with the task's own X.509-SVID and gets a token that is bound to it",
)] if {
	operation
	not binding_strong
}

failures contains [110, 0, 0, refusal(
	"DPT-APPROVAL-REQUIRED",
	"approval_needed",
	concat("", [subject, " needs approval by a person"]),
	concat("", [
		"a person who may approve ", extent,
		" approves this call ('deputy approvals list' shows it), then it is sent again",
	]),
)] if {
	approval_needed
}

# What follows is asked only when something failed.

exceeded := [limit |
	some limit in operation.limits
	is_array(limit.path)
	not within(limit, object.get(input, limit.path, null))
]

human_classes := [c | some c in wanted; human_has(c)]

# What the chain is measured against: what the human has, or, when that is nothing, what was wanted.
claimed := human_classes if {
	count(human_classes) > 0
} else := wanted

presenter := data.grants.agents[input.agent.name]

presenter_classes := [c | some c in claimed; hop_has(input.chain[0], c)]

presenter_short if {
	presenter.services[input.resource.service]
	count(wanted) > 0
	count(presenter_classes) == 0
} else if {
	input.phase == "task"
	presenter
	not tier_known
}

# The delegators alone, measured against what the presenter has.
inherited := presenter_classes if {
	count(presenter_classes) > 0
} else := claimed

chain_short if {
	count(wanted) > 0
	count([c | some c in inherited; delegators_have(c)]) == 0
} else if {
	input.phase == "task"
	presenter
	not agents_known
}

delegators_have(c) if {
	every i, hop in input.chain {
		delegator_has(i, hop, c)
	}
}

delegator_has(i, hop, c) if {
	i == 0
} else if {
	hop_has(hop, c)
}

narrowing := [hop.name | some i, hop in input.chain; i > 0; not hop_reaches(hop)]

hop_reaches(hop) if {
	some c in inherited
	hop_has(hop, c)
}

scope_fits if {
	count(authority) == 0
	some c in wanted
	in_scope(c)
}
