package deputy_test

import data.deputy

test_allows_what_all_allow if {
	answer := deputy.decision with input as asks("triage", "read_ticket") with data.grants as grants
	answer == {"effect": "allow", "reasons": [], "obligations": {}}
}

test_denies_without_grants[note] if {
	some note, empty in {"no data": {}, "no agents": object.remove(grants, ["agents"])}
	answer := deputy.decision with input as asks("triage", "read_ticket") with data.grants as empty
	answer.effect == "deny"
}

test_denies_what_is_no_question[note] if {
	some note, changes in {
		"other version": {"version": "deputy.input/v2"},
		"empty chain": {"chain": []},
		"presenter not in the chain": {"chain": [{"name": "admin", "ceiling": "operator"}]},
		"chain is no list": {"chain": "triage"},
		"nameless hop": {"chain": [{"name": "triage", "ceiling": "operator"}, {"ceiling": "operator"}]},
	}
	answer := deputy.decision with input as but(asks("triage", "read_ticket"), changes) with data.grants as grants
	answer.effect == "deny"
	codes(answer) == ["DPT-POLICY-SHAPE"]
}

test_denies_unknown_phases[note] if {
	some note, changes in {
		"phase": {"phase": "observe"},
		"phase of the action": {"action": {"protocol": "mcp", "method": "tools/call", "phase": "dry-run"}},
	}
	answer := deputy.decision with input as but(asks("triage", "read_ticket"), changes) with data.grants as grants
	answer.effect == "deny"
	codes(answer) == ["DPT-DENIED"]
}

test_denies_when_a_part_is_missing[part] if {
	some part in ["human", "agent", "chain", "binding", "scopes", "action", "resource", "phase", "version"]
	question := object.remove(asks("resolver", "purge"), [part])
	answer := deputy.decision with input as question with data.grants as grants
	answer.effect == "deny"
}

test_a_class_of_approve_is_neither_allowed_nor_denied if {
	answer := deputy.decision with input as asks("resolver", "purge") with data.grants as grants
	answer.effect == "approve"
	codes(answer) == ["DPT-APPROVAL-REQUIRED"]
}

test_reasons_come_in_their_precedence if {
	question := but(asks("triage", "purge"), {"human": person(["reader"]), "scopes": [], "binding": "workload"})
	answer := deputy.decision with input as question with data.grants as grants
	codes(answer) == [
		"DPT-HUMAN-NOT-GRANTED",
		"DPT-AGENT-TIER",
		"DPT-AGENT-TIER",
		"DPT-SCOPE-MISSING",
		"DPT-BINDING-WEAK",
	]
	[found.audience | some found in answer.reasons] == ["agent", "agent", "operator", "agent", "agent"]
}

test_exchange_gives_no_more_than_all_have if {
	question := but(asks("resolver", "x"), {"phase": "exchange", "human": person(["reader"]), "scopes": []})
	answer := deputy.decision with input as question with data.grants as grants
	answer == {"effect": "allow", "reasons": [], "obligations": {"scopes": ["tickets:read"]}}
}

test_exchange_includes_what_needs_approval if {
	answer := deputy.decision with input as but(asks("resolver", "x"), {"phase": "exchange"}) with data.grants as grants
	answer.obligations == {"scopes": ["tickets:destroy", "tickets:read", "tickets:write"]}
}

test_task_starts_for_who_is_known if {
	question := but(asks("triage", ""), {"phase": "task", "resource": {"service": "", "type": "server", "name": ""}})
	answer := deputy.decision with input as question with data.grants as grants
	answer.effect == "allow"
}

test_task_does_not_start_for_a_stranger[note] if {
	some note, tc in {
		"person": {"changes": {"human": person([])}, "code": "DPT-HUMAN-NOT-GRANTED"},
		"nobody": {"changes": {"human": null}, "code": "DPT-HUMAN-REQUIRED"},
		"agent": {
			"changes": {"agent": {"name": "new"}, "chain": [{"name": "new", "ceiling": "operator"}]},
			"code": "DPT-AGENT-NOT-GRANTED",
		},
		"ceiling": {"changes": {"chain": [{"name": "triage", "ceiling": "none"}]}, "code": "DPT-AGENT-TIER"},
		"delegator": {
			"changes": {"chain": [{"name": "triage", "ceiling": "operator"}, {"name": "new", "ceiling": "operator"}]},
			"code": "DPT-CHAIN-NARROWED",
		},
	}
	question := but(but(asks("triage", ""), {"phase": "task"}), tc.changes)
	answer := deputy.decision with input as question with data.grants as grants
	answer.effect == "deny"
	codes(answer)[0] == tc.code
}
