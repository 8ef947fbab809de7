package deputy_test

import data.deputy

# The classes of grants: read_ticket read, close_ticket write, export_tickets read and only for a person, purge destroy.
offered := ["purge", "close_ticket", "nowhere", "read_ticket", "export_tickets", "read_ticket "]

lists(agent, kind, names) := object.union(object.remove(asks(agent, "x"), ["resource"]), {
	"phase": "visible",
	"resource": {"service": "tickets", "type": kind, "name": "tickets", "names": names},
})

shown(question) := found if {
	found := deputy.visible with input as question with data.grants as grants
}

test_shown_is_what_some_call_could_do[note] if {
	some note, tc in {
		"an observer reads": {"agent": "triage", "names": ["read_ticket", "export_tickets"]},
		"what needs approval is shown": {
			"agent": "resolver",
			"names": ["purge", "close_ticket", "read_ticket", "export_tickets"],
		},
		"an agent that nobody lists": {"agent": "new", "names": []},
	}
	shown(lists(tc.agent, "tool", offered)) == tc.names
}

test_a_list_that_holds_what_others_cannot_have[note] if {
	all := lists("resolver", "tool", offered)
	some note, tc in {
		"a person with fewer rights": {"changes": {"human": person(["reader"])}, "names": ["read_ticket", "export_tickets"]},
		"a person with none": {"changes": {"human": person([])}, "names": []},
		"a token with fewer scopes": {"changes": {"scopes": ["tickets:write"]}, "names": ["close_ticket"]},
		"scopes of another service": {"changes": {"scopes": ["billing:read"]}, "names": []},
		"a token that is bound to the workload": {
			"changes": {"binding": "workload"},
			"names": ["close_ticket", "read_ticket", "export_tickets"],
		},
		"a chain with an observer": {
			"changes": chain_of(["resolver", "triage"]),
			"names": ["read_ticket", "export_tickets"],
		},
		"a presenter who does not head the chain": {
			"changes": {"chain": [{"name": "triage", "ceiling": "operator"}]},
			"names": [],
		},
		"another form of question": {"changes": {"version": "deputy.input/v2"}, "names": []},
		"another phase": {"changes": {"phase": "check"}, "names": []},
		"no call": {"changes": {"action": {"protocol": "mcp", "method": "tools/call", "phase": "list"}}, "names": []},
	}
	shown(object.union(object.remove(all, object.keys(tc.changes)), tc.changes)) == tc.names
}

test_for_nobody_what_asks_for_no_person[note] if {
	alone := {"human": null, "binding": "svid", "scopes": []}
	some note, tc in {
		"autonomous": {"agent": {"autonomous": true}, "chain": ["resolver"], "names": ["close_ticket", "read_ticket"]},
		"not autonomous": {"agent": {"autonomous": false}, "chain": ["resolver"], "names": []},
		"through another agent": {"agent": {"autonomous": true}, "chain": ["resolver", "admin"], "names": []},
	}
	question := object.union(lists("resolver", "tool", offered), object.union(alone, chain_of(tc.chain)))
	shown(object.union(question, {"agent": tc.agent})) == tc.names
}

test_what_has_one_class_is_shown_whole_or_not_at_all[note] if {
	method := {"action": {"protocol": "mcp", "method": "resources/read", "phase": "call"}}
	names := ["file:///a", "file:///{b}", "read_ticket"]
	some note, tc in {
		"resources": {"agent": "triage", "kind": "resource", "changes": method, "names": names},
		"templates": {"agent": "triage", "kind": "resource_template", "changes": method, "names": names},
		"a method that nobody lists": {
			"agent": "triage", "kind": "prompt",
			"changes": {"action": {"protocol": "mcp", "method": "prompts/get", "phase": "call"}}, "names": [],
		},
		"a person without rights": {
			"agent": "triage", "kind": "resource",
			"changes": object.union(method, {"human": person([])}), "names": [],
		},
	}
	question := lists(tc.agent, tc.kind, names)
	shown(object.union(object.remove(question, object.keys(tc.changes)), tc.changes)) == tc.names
}

test_models_are_a_list_of_their_own[note] if {
	llm := {
		"action": {"protocol": "llm", "method": "chat.completions", "phase": "call"},
		"scopes": ["ledger:read"],
	}
	some note, tc in {
		"models": {"kind": "model", "names": ["m"]},
		"tools are no models": {"kind": "tool", "names": []},
	}
	resource := {"resource": {"service": "ledger", "type": tc.kind, "name": "ledger", "names": ["find", "m", "n"]}}
	shown(object.union(object.union(lists("admin", tc.kind, []), llm), resource)) == tc.names
}

test_limits_and_data_hide_nothing if {
	question := object.union(lists("resolver", "tool", []), {
		"scopes": ["billing:write"],
		"resource": {"service": "billing", "type": "tool", "name": "billing", "names": ["refund"]},
	})
	shown(question) == ["refund"]
}

test_nothing_is_shown_of_a_question_without_names[note] if {
	all := lists("resolver", "tool", offered)
	some note, resource in {
		"none": {"service": "tickets", "type": "tool", "name": "tickets"},
		"a text": {"service": "tickets", "type": "tool", "name": "tickets", "names": "read_ticket"},
		"a service that nobody lists": {"service": "x", "type": "tool", "name": "x", "names": offered},
	}
	shown(object.union(object.remove(all, ["resource"]), {"resource": resource})) == []
}

test_a_question_about_a_list_is_no_call if {
	answer := deputy.decision with input as lists("resolver", "tool", ["read_ticket"]) with data.grants as grants
	answer.effect == "deny"
}
