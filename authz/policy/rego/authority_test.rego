package deputy_test

import data.deputy

chain_of(names) := {
	"agent": {"name": names[0], "ceiling": "operator", "autonomous": false, "owner": "team"},
	"chain": [{"name": name, "ceiling": "operator"} | some name in names],
}

test_human_and_agent_must_both_have_it[note] if {
	some note, tc in {
		"the agent lacks it": {"agent": "triage", "groups": ["lead"], "code": "DPT-AGENT-TIER"},
		"the human lacks it": {"agent": "resolver", "groups": ["reader"], "code": "DPT-HUMAN-NOT-GRANTED"},
		"no groups": {"agent": "resolver", "groups": [], "code": "DPT-HUMAN-NOT-GRANTED"},
		"the agent is not listed": {"agent": "new", "groups": ["lead"], "code": "DPT-AGENT-NOT-GRANTED"},
	}
	question := but(asks(tc.agent, "close_ticket"), {"human": person(tc.groups)})
	answer := deputy.decision with input as question with data.grants as grants
	answer.effect == "deny"
	codes(answer)[0] == tc.code
}

test_one_person_is_granted_beside_their_groups if {
	human := {"issuer": "https://idp.example", "subject": "sam", "uri": "https://idp.example#sam", "groups": []}
	answer := deputy.decision with input as but(asks("resolver", "close_ticket"), {"human": human})
		with data.grants as grants
	answer.effect == "allow"
}

test_a_chain_only_narrows[note] if {
	some note, tc in {
		"an observer behind a contributor": {"chain": ["resolver", "triage"], "code": "DPT-CHAIN-NARROWED"},
		"a contributor behind an observer": {"chain": ["triage", "resolver"], "code": "DPT-AGENT-TIER"},
		"in the middle": {"chain": ["resolver", "triage", "admin"], "code": "DPT-CHAIN-NARROWED"},
		"at the end": {"chain": ["resolver", "admin", "triage"], "code": "DPT-CHAIN-NARROWED"},
		"not granted": {"chain": ["resolver", "new"], "code": "DPT-CHAIN-NARROWED"},
	}
	question := but(asks("resolver", "close_ticket"), chain_of(tc.chain))
	answer := deputy.decision with input as question with data.grants as grants
	answer.effect == "deny"
	codes(answer)[0] == tc.code
}

test_a_chain_keeps_what_all_have if {
	question := but(asks("resolver", "read_ticket"), chain_of(["resolver", "triage", "admin"]))
	answer := deputy.decision with input as question with data.grants as grants
	answer.effect == "allow"
}

test_the_operator_reads_who_narrows_and_the_agent_does_not if {
	question := but(asks("resolver", "close_ticket"), chain_of(["resolver", "triage"]))
	answer := deputy.decision with input as question with data.grants as grants
	[contains(found.msg, "triage") | some found in answer.reasons] == [false, true]
	[found.audience | some found in answer.reasons] == ["agent", "operator"]
}

test_nobody_is_for_autonomous_agents_only[note] if {
	some note, tc in {
		"not autonomous": {"tool": "read_ticket", "autonomous": false, "effect": "deny"},
		"autonomous": {"tool": "read_ticket", "autonomous": true, "effect": "allow"},
		"a tool for people": {"tool": "export_tickets", "autonomous": true, "effect": "deny"},
		"not a boolean": {"tool": "read_ticket", "autonomous": "true", "effect": "deny"},
	}
	agent := {"name": "triage", "ceiling": "operator", "autonomous": tc.autonomous, "owner": "team"}
	question := but(asks("triage", tc.tool), {"human": null, "agent": agent, "binding": "svid", "scopes": []})
	answer := deputy.decision with input as question with data.grants as grants
	answer.effect == tc.effect
}

test_the_ceiling_of_the_registry_binds if {
	question := but(asks("resolver", "close_ticket"), {"chain": [{"name": "resolver", "ceiling": "observer"}]})
	answer := deputy.decision with input as question with data.grants as grants
	codes(answer) == ["DPT-AGENT-TIER", "DPT-AGENT-TIER"]
}
