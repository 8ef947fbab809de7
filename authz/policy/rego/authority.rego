# Who may: the classes that the human and every agent of the chain have in common on the service.
package deputy

authority := [c | some c in wanted; human_has(c); chain_has(c)]

# Whether a call may go without a human is the business of human_named.
human_has(c) if {
	input.human == null
} else if {
	data.grants.subjects[input.human.uri][input.resource.service][c]
} else if {
	some group in input.human.groups
	data.grants.groups[group][input.resource.service][c]
}

chain_has(c) if {
	every hop in input.chain {
		hop_has(hop, c)
	}
}

# The registry's ceiling and the grants are kept by different people; an agent has what both give.
hop_has(hop, c) if {
	agent := data.grants.agents[hop.name]
	agent.services[input.resource.service]
	data.grants.tiers[agent.tier][c]
	data.grants.tiers[hop.ceiling][c]
}

# A call for nobody needs an agent registered for that, an operation that does not ask for a human, and no chain:
# of the other agents the question does not say whether they may act for nobody.
human_named if {
	input.human != null
} else if {
	for_nobody
	not operation.human
}

for_nobody if {
	input.human == null
	input.agent.autonomous == true
	count(input.chain) == 1
}

approval_needed if {
	calls
	some hop in input.chain
	hop_asks(hop)
}

hop_asks(hop) if {
	data.grants.tiers[hop.ceiling][operation.class] == "approve"
} else if {
	data.grants.tiers[data.grants.agents[hop.name].tier][operation.class] == "approve"
}

# A task names no service yet: human and agents must be somebody here at all.
human_known if {
	input.human == null
} else if {
	data.grants.subjects[input.human.uri]
} else if {
	some group in input.human.groups
	data.grants.groups[group]
}

agents_known if {
	every hop in input.chain {
		data.grants.agents[hop.name]
	}
}

tier_known if {
	some c in classes
	data.grants.tiers[data.grants.agents[input.agent.name].tier][c]
	data.grants.tiers[input.chain[0].ceiling][c]
}
