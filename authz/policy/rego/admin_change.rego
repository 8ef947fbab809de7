# What a change does to an agent's authority, and the sentences about what is not permitted.
#
# - A part is within what it was only where that can be shown; whatever else it is counts as raised.
# - A tier is within another where it holds no class that the other lacks, nor without approval what needs it there.
package deputy.admin

compares if {
	input.target.agent != null
	input.target.proposed != null
}

raised contains "autonomous" if {
	compares
	not autonomous_within
}

raised contains "ceiling" if {
	compares
	not ceiling_within
}

raised contains "clients" if {
	compares
	not clients_within
}

raised contains "expiry" if {
	compares
	not expiry_within
}

raised contains "hosts" if {
	compares
	not hosts_within
}

raised contains "max depth" if {
	compares
	not depth_within
}

raised contains "owner" if {
	compares
	input.target.proposed.owner != input.target.agent.owner
}

raised contains "sandbox" if {
	compares
	not sandbox_within
}

autonomous_within if {
	input.target.proposed.autonomous == false
} else if {
	input.target.proposed.autonomous == input.target.agent.autonomous
}

ceiling_within if {
	input.target.proposed.ceiling == input.target.agent.ceiling
} else if {
	tier_within(input.target.proposed.ceiling, input.target.agent.ceiling)
}

tier_within(new, old) if {
	data.grants.tiers[new]
	class_within("destroy", new, old)
	class_within("read", new, old)
	class_within("write", new, old)
}

class_within(class, new, old) if {
	not data.grants.tiers[new][class]
} else if {
	data.grants.tiers[old][class] == "allow"
} else if {
	data.grants.tiers[old][class] == data.grants.tiers[new][class]
}

clients_within if {
	every client in input.target.proposed.clients {
		client in input.target.agent.clients
	}
}

hosts_within if {
	every host in input.target.proposed.hosts {
		host in input.target.agent.hosts
	}
}

depth_within if {
	is_number(input.target.proposed.max_depth)
	is_number(input.target.agent.max_depth)
	input.target.proposed.max_depth <= input.target.agent.max_depth
}

# No expiry is the latest.
expiry_within if {
	input.target.proposed.expires_at == input.target.agent.expires_at
} else if {
	input.target.agent.expires_at == null
	is_number(input.target.proposed.expires_at)
} else if {
	is_number(input.target.proposed.expires_at)
	is_number(input.target.agent.expires_at)
	input.target.proposed.expires_at <= input.target.agent.expires_at
}

# Of two sandboxes nobody here knows which is the stronger.
sandbox_within if {
	input.target.proposed.sandbox == input.target.agent.sandbox
} else if {
	input.target.agent.sandbox == null
	is_string(input.target.proposed.sandbox)
}

# What even a lower one of is no owner's business: an operator gave it.
moved contains "autonomous" if {
	compares
	input.target.proposed.autonomous != input.target.agent.autonomous
}

moved contains "ceiling" if {
	compares
	input.target.proposed.ceiling != input.target.agent.ceiling
}

moved contains "clients" if {
	compares
	input.target.proposed.clients != input.target.agent.clients
}

moved contains "hosts" if {
	compares
	input.target.proposed.hosts != input.target.agent.hosts
}

moved contains "sandbox" if {
	compares
	input.target.proposed.sandbox != input.target.agent.sandbox
}

reason := refusal(
	"is_self",
	"only the person themselves makes a grant in their name",
	"let them sign in and make it",
) if {
	input.action == "grants/create"
} else := refusal(
	"raises_own",
	concat("", ["who owns an agent does not raise it, nor makes it their own: ", concat(", ", raised_names)]),
	"ask another operator, who does not own the agent",
) if {
	operates
	raises_own
} else := refusal(
	"releases_own",
	"nobody releases themselves, or an agent of their own that another contained",
	"ask another operator",
) if {
	operates
	releases_own
} else := refusal(
	"approves_own",
	"who owns an agent does not approve what it asks for in another's name",
	"let the person whom it acts for decide, or another operator",
) if {
	operates
	approves_own
} else := refusal(
	"approves_unseen",
	"a call is approved by a person, and by no workload",
	"let the person whom it acts for decide, or an operator who signs in",
) if {
	operates
	approves_unseen
} else := refusal(
	"owner_may",
	concat("", ["an owner does not raise an agent of their own: ", concat(", ", raised_names)]),
	"ask an operator, who does not own the agent",
) if {
	owns
	input.action == "agents/change"
	count(raised) > 0
} else := refusal(
	"owner_may",
	concat("", ["an owner does not change this of an agent of their own: ", concat(", ", moved_names)]),
	"ask an operator",
) if {
	owns
	input.action == "agents/change"
} else := refusal(
	"owner_may",
	"an owner releases what they contained themselves, and contains what nobody else did",
	"ask an operator",
) if {
	owns
	input.action in ["agents/contain", "agents/release"]
} else := refusal(
	"permitted",
	"you may not administer this",
	"ask an operator; the admin section of the grants says who may",
)

raised_names := [name | some name in raised]

moved_names := [name | some name in moved]

refusal(rule, msg, fix) := {"code": "DPT-NOT-PERMITTED", "rule": rule, "msg": msg, "fix": fix, "audience": "agent"}
