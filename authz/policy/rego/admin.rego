# Who may change registry, grants, policy and epochs: data.deputy.admin.decision, in the form of schemas/result.json.
#
# - Deny is what is left. The private socket and operators may do everything but speak in a person's name.
# - Nobody raises what they own: an owner changes little, and an operator who owns an agent needs another operator.
# - Nobody lets themselves go: what another contained is released by another.
# - What a tool is, is for operators to accept, people or pipelines: a list that was reviewed is a file, too.
# - A call that needs approval is approved by a person: whom it acts for, or an operator who does not own the agent.
# - Names are compared exactly, and each kind of actor only with names of its kind.
# - It reads questions of deputy.admin/v1, and no rule of another package.
package deputy.admin

decision := {"effect": "allow", "reasons": [], "obligations": {}} if {
	understood
	permitted
} else := {"effect": "deny", "reasons": [reason], "obligations": {}} if {
	understood
} else := {
	"effect": "deny",
	"reasons": [{
		"code": "DPT-POLICY-SHAPE",
		"rule": "understood",
		"msg": "the policy cannot read this question",
		"fix": "an operator compares it with deputy.admin/v1",
		"audience": "agent",
	}],
	"obligations": {},
}

understood if {
	input.version == "deputy.admin/v1"
	input.actor.kind in ["human", "local", "workload"]
	is_string(input.actor.id)
	input.action in actions
	shaped
}

actions := [
	"agents/change", "agents/contain", "agents/list", "agents/register", "agents/release", "agents/retire",
	"approvals/approve", "approvals/deny", "approvals/list", "approvals/show", "epochs/show", "events/receive",
	"grants/create", "grants/list", "grants/revoke", "people/contain", "people/release", "pins/accept", "pins/forget",
	"pins/list", "pins/show", "policy/reload", "tokens/revoke", "workloads/contain", "workloads/release",
]

# A change is of one agent; a name that was registered before is compared with what it was. Who is contained or
# released is named, else nobody could tell that it is the actor; and so is whose agent asks to be approved, and the
# tool that is accepted.
shaped if {
	not input.action in [
		"agents/change", "agents/register", "approvals/approve", "approvals/deny", "approvals/show",
		"people/contain", "people/release", "pins/accept", "pins/forget", "pins/show", "workloads/contain",
		"workloads/release",
	]
} else if {
	input.action in ["people/contain", "people/release"]
	is_string(input.target.human)
} else if {
	input.action in ["workloads/contain", "workloads/release"]
	is_string(input.target.workload)
} else if {
	input.action in ["approvals/deny", "approvals/show", "pins/accept", "pins/forget", "pins/show"]
	is_string(input.target.id)
} else if {
	input.action == "approvals/approve"
	is_string(input.target.id)
	is_string(input.target.agent.owner)
} else if {
	input.action in ["agents/change", "agents/register"]
	input.target.proposed.name == input.target.agent.name
} else if {
	input.action == "agents/register"
	input.target.agent == null
	is_string(input.target.proposed.name)
}

permitted if {
	input.actor.kind == "local"
	input.action != "grants/create"
} else if {
	operates
	input.action != "grants/create"
	not raises_own
	not releases_own
	not approves_own
	not approves_unseen
} else if {
	input.action in ["agents/list", "approvals/list", "grants/list", "pins/list", "pins/show"]
	has_role("auditors")
} else if {
	input.action == "events/receive"
	has_role("transmitters")
} else if {
	owns
	owner_may
} else if {
	is_self
	self_may
}

operates if has_role("operators")

has_role(role) if {
	input.actor.kind == "human"
	data.grants.admin[role].people[input.actor.id]
} else if {
	input.actor.kind == "workload"
	data.grants.admin[role].workloads[input.actor.id]
} else if {
	input.actor.kind == "human"
	some group in input.actor.groups
	data.grants.admin[role].groups[group]
}

is_self if {
	input.actor.kind == "human"
	input.target.human == input.actor.id
}

# What an agent asks of the person whom it acts for is that person's to see and to decide, whoever owns the agent.
# One's own containment does not take the place of somebody else's, which may be wider.
self_may if {
	input.action in [
		"approvals/approve", "approvals/deny", "approvals/list", "approvals/show",
		"grants/create", "grants/list", "grants/revoke", "tokens/revoke",
	]
} else if {
	input.action == "people/contain"
	contained_by_no_other
}

owns if {
	input.actor.kind == "human"
	input.target.agent.owner == input.actor.id
}

contained_by_no_other if {
	input.target.contained_by == null
} else if {
	input.target.contained_by == input.actor.id
}

# A containment of somebody else's is not written over, else it would be one's own to release.
owner_may if {
	input.action in ["agents/list", "agents/retire"]
} else if {
	input.action == "agents/contain"
	contained_by_no_other
} else if {
	input.action == "agents/release"
	input.target.contained_by == input.actor.id
} else if {
	input.action == "agents/change"
	count(raised) == 0
	count(moved) == 0
}

# Four eyes: what an operator owns, or would own, is raised by another operator.
raises_own if {
	owns
	count(raised) > 0
} else if {
	input.actor.kind == "human"
	input.target.proposed.owner == input.actor.id
	count(raised) > 0
}

# Four eyes here, too: who answers for an agent does not wave through what it asks for in another's name.
approves_own if {
	input.action == "approvals/approve"
	owns
}

# No pipeline has eyes.
approves_unseen if {
	input.action == "approvals/approve"
	input.actor.kind == "workload"
}

# Containing oneself, or one's own agent, over what another did is the first step of releasing it.
releases_own if {
	input.action in ["people/release", "workloads/release"]
	is_actor
} else if {
	input.action in ["people/contain", "workloads/contain"]
	is_actor
	not contained_by_no_other
} else if {
	input.action == "agents/release"
	owns
	input.target.contained_by != input.actor.id
} else if {
	input.action == "agents/contain"
	owns
	not contained_by_no_other
}

is_actor if {
	is_self
} else if {
	input.actor.kind == "workload"
	input.target.workload == input.actor.id
}
