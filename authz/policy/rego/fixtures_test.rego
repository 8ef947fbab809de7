# Grants and questions that the tests share; what a question leaves as it is here is allowed.
package deputy_test

grants := {
	"tiers": {
		"observer": {"read": "allow"},
		"contributor": {"read": "allow", "write": "allow", "destroy": "approve"},
		"operator": {"read": "allow", "write": "allow", "destroy": "allow"},
	},
	"services": {
		"tickets": {
			"tools": {
				"read_ticket": {"class": "read", "human": false, "limits": []},
				"close_ticket": {"class": "write", "human": false, "limits": []},
				"export_tickets": {"class": "read", "human": true, "limits": []},
				"purge": {"class": "destroy", "human": false, "limits": []},
			},
			"methods": {"resources/read": {"class": "read", "human": false, "limits": []}},
			"http": {"GET": [
				{"path": "/items", "below": false, "class": "read", "human": false, "limits": []},
				{"path": "/items/", "below": true, "class": "write", "human": false, "limits": []},
			]},
		},
		"billing": {
			"tools": {"refund": {"class": "write", "human": false, "limits": [
				limit("/amount", "min", 0, "at least 0"),
				limit("/amount", "max", 100, "at most 100"),
				limit("/currency", "one_of", ["EUR", 1], "one of [\"EUR\", 1]"),
				limit("/note", "prefix", "re:", "text that begins with \"re:\""),
			]}},
			"methods": {},
			"http": {},
		},
		"ledger": {
			"tools": {
				"find": {"class": "read", "human": false, "limits": [object.union(
					limit("/order", "matches", "[A-Z]{2}", "text that matches \"[A-Z]{2}\""),
					{"pattern": "^(?:[A-Z]{2})$"},
				)]},
				"select": {"class": "read", "human": false, "limits": [
					limit("/fields", "only", ["id", 7], "a list of nothing but [\"id\", 7]"),
				]},
			},
			"methods": {},
			"http": {},
			"a2a": {"GetTask": {"class": "read", "human": false, "limits": []}},
			"tenants": {"acme": true},
			"models": {"m": {"class": "read", "human": false, "limits": []}},
			"grpc": {"/a.B/C": {"class": "read", "human": false, "limits": []}},
			"payload": {"secret": "deny", "email": "record"},
		},
	},
	"groups": {
		"lead": {
			"tickets": {"read": true, "write": true, "destroy": true},
			"billing": {"read": true, "write": true},
			"ledger": {"read": true},
		},
		"reader": {"tickets": {"read": true}},
	},
	"subjects": {"https://idp.example#sam": {"tickets": {"write": true}}},
	"agents": {
		"triage": {"tier": "observer", "services": {"tickets": true}},
		"resolver": {"tier": "contributor", "services": {"tickets": true, "billing": true}},
		"admin": {"tier": "operator", "services": {"tickets": true, "ledger": true}},
	},
}

limit(pointer, kind, value, text) := {
	"pointer": pointer,
	"path": ["arguments", trim_prefix(pointer, "/")],
	"kind": kind,
	"value": value,
	"text": text,
}

person(groups) := {"issuer": "https://idp.example", "subject": "sam", "uri": "https://idp.example#pat", "groups": groups}

asks(agent, tool) := {
	"version": "deputy.input/v1",
	"phase": "check",
	"human": person(["lead"]),
	"agent": {"name": agent, "ceiling": "operator", "autonomous": false, "owner": "team"},
	"chain": [{"name": agent, "ceiling": "operator"}],
	"binding": "key",
	"scopes": ["tickets:destroy", "tickets:read", "tickets:write"],
	"action": {"protocol": "mcp", "method": "tools/call", "phase": "call"},
	"resource": {"service": "tickets", "type": "tool", "name": tool},
	"arguments": null,
	"payload": [],
}

but(question, changes) := object.union(question, changes)

codes(answer) := [found.code | some found in answer.reasons]
