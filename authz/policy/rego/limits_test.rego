package deputy_test

import data.deputy

refund(arguments) := but(asks("resolver", ""), {
	"resource": {"service": "billing", "type": "tool", "name": "refund"},
	"scopes": ["billing:write"],
	"arguments": arguments,
})

fitting := {"amount": 40, "currency": "EUR", "note": "re: broken"}

test_arguments_within_their_limits[note] if {
	some note, changes in {
		"as they are": {},
		"at the upper limit": {"amount": 100},
		"at the lower limit": {"amount": 0},
		"another of the values": {"currency": 1},
		"a member without limit": {"reason": [1, 2]},
	}
	answer := deputy.decision with input as refund(but(fitting, changes)) with data.grants as grants
	answer.effect == "allow"
}

test_arguments_outside_their_limits[note] if {
	some note, changes in {
		"above": {"amount": 100.01},
		"below": {"amount": -1},
		"text for a number": {"amount": "40"},
		"true for a number": {"amount": true},
		"null": {"amount": null},
		"a list": {"amount": [40]},
		"not one of": {"currency": "USD"},
		"other case": {"currency": "eur"},
		"text for a value": {"currency": "1"},
		"another beginning": {"note": "fwd: re:"},
		"number for a text": {"note": 7},
	}
	answer := deputy.decision with input as refund(but(fitting, changes)) with data.grants as grants
	answer.effect == "deny"
	{code | some code in codes(answer)} == {"DPT-ARGUMENT-LIMIT"}
}

test_missing_arguments_are_outside[note] if {
	some note, arguments in {"null": null, "empty": {}, "a list": []}
	answer := deputy.decision with input as refund(arguments) with data.grants as grants
	answer.effect == "deny"
	count(answer.reasons) == 7
}

test_an_argument_is_named_once_to_the_agent if {
	answer := deputy.decision with input as refund(but(fitting, {"amount": "much"})) with data.grants as grants
	[found.audience | some found in answer.reasons] == ["agent", "operator", "operator"]
}

test_only_the_operator_reads_the_limit if {
	answer := deputy.decision with input as refund(but(fitting, {"amount": 500})) with data.grants as grants
	[contains(found.msg, "100") | some found in answer.reasons] == [false, true]
	not contains(answer.reasons[1].msg, "500")
}

test_a_call_needs_the_scope_of_its_class[note] if {
	some note, scopes in {"none": [], "other class": ["tickets:write"], "other service": ["billing:read"], "any": ["*"]}
	answer := deputy.decision with input as but(asks("triage", "read_ticket"), {"scopes": scopes})
		with data.grants as grants
	codes(answer) == ["DPT-SCOPE-MISSING"]
	answer.obligations == {"needed_scopes": ["tickets:read"]}
}

test_a_wider_token_is_not_asked_for_in_vain if {
	question := but(refund(but(fitting, {"amount": 500})), {"scopes": []})
	answer := deputy.decision with input as question with data.grants as grants
	codes(answer)[0] == "DPT-SCOPE-MISSING"
	answer.obligations == {}
}

test_an_svid_of_somebody_still_needs_scopes if {
	question := but(asks("triage", "read_ticket"), {"binding": "svid", "scopes": []})
	answer := deputy.decision with input as question with data.grants as grants
	codes(answer) == ["DPT-SCOPE-MISSING"]
}

test_what_destroys_needs_a_key[note] if {
	some note, tc in {
		"key": {"binding": "key", "effect": "allow"},
		"workload": {"binding": "workload", "effect": "deny"},
		"svid": {"binding": "svid", "effect": "deny"},
		"nothing": {"binding": null, "effect": "deny"},
	}
	answer := deputy.decision with input as but(asks("admin", "purge"), {"binding": tc.binding})
		with data.grants as grants
	answer.effect == tc.effect
}

of_tool(name, arguments) := but(asks("admin", ""), {
	"resource": {"service": "ledger", "type": "tool", "name": name},
	"scopes": ["ledger:read"],
	"arguments": arguments,
})

test_a_pattern_matches_a_whole_text[note] if {
	some note, tc in {
		"whole": {"order": "AB", "effect": "allow"},
		"longer": {"order": "ABC", "effect": "deny"},
		"line end": {"order": "AB\n", "effect": "deny"},
		"other case": {"order": "ab", "effect": "deny"},
		"number": {"order": 1, "effect": "deny"},
		"list": {"order": ["AB"], "effect": "deny"},
		"null": {"order": null, "effect": "deny"},
	}
	answer := deputy.decision with input as of_tool("find", {"order": tc.order}) with data.grants as grants
	answer.effect == tc.effect
}

test_a_list_holds_nothing_else[note] if {
	some note, tc in {
		"all": {"fields": ["id", 7, "id"], "effect": "allow"},
		"empty": {"fields": [], "effect": "allow"},
		"another": {"fields": ["id", "secret"], "effect": "deny"},
		"text for a number": {"fields": ["7"], "effect": "deny"},
		"a list within": {"fields": [["id"]], "effect": "deny"},
		"no list": {"fields": "id", "effect": "deny"},
		"object": {"fields": {"a": "id"}, "effect": "deny"},
		"null": {"fields": null, "effect": "deny"},
		"too long": {"fields": ["id" | some _ in numbers.range(1, 65)], "effect": "deny"},
	}
	answer := deputy.decision with input as of_tool("select", {"fields": tc.fields}) with data.grants as grants
	answer.effect == tc.effect
}

test_data_are_denied_by_their_class[note] if {
	some note, tc in {
		"none": {"payload": [], "codes": []},
		"recorded": {"payload": ["email"], "codes": []},
		"without a rule": {"payload": ["iban"], "codes": []},
		"denied": {"payload": ["email", "secret"], "codes": ["DPT-PAYLOAD"]},
	}
	question := but(of_tool("select", {"fields": []}), {"payload": tc.payload})
	answer := deputy.decision with input as question with data.grants as grants
	codes(answer) == tc.codes
}

test_data_are_denied_in_every_message[phase] if {
	some phase in ["lifecycle", "list"]
	question := json.patch(of_tool("select", {"fields": []}), [
		{"op": "replace", "path": "/action/phase", "value": phase},
		{"op": "replace", "path": "/payload", "value": ["secret"]},
	])
	answer := deputy.decision with input as question with data.grants as grants
	codes(answer) == ["DPT-PAYLOAD"]
}

test_a_question_that_says_nothing_of_data_is_denied[note] if {
	some note, question in {
		"missing": object.remove(of_tool("select", {"fields": []}), ["payload"]),
		"null": but(of_tool("select", {"fields": []}), {"payload": null}),
		"text": but(of_tool("select", {"fields": []}), {"payload": "secret"}),
	}
	answer := deputy.decision with input as question with data.grants as grants
	answer.effect == "deny"
}
