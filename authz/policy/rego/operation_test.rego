package deputy_test

import data.deputy

http(method, path) := {
	"action": {"protocol": "http", "method": method, "phase": "call"},
	"resource": {"service": "tickets", "type": "path", "name": path},
}

mcp(method, phase) := {
	"action": {"protocol": "mcp", "method": method, "phase": phase},
	"resource": {"service": "tickets", "type": "server", "name": "tickets"},
}

test_only_what_is_listed_exists[note] if {
	some note, tc in {
		"tool": {"tool": "drop_table", "service": "tickets", "code": "DPT-TOOL-UNKNOWN"},
		"tool of another service": {"tool": "refund", "service": "tickets", "code": "DPT-TOOL-UNKNOWN"},
		"service": {"tool": "read_ticket", "service": "payroll", "code": "DPT-SERVICE-UNKNOWN"},
	}
	changes := {"resource": {"service": tc.service, "type": "tool", "name": tc.tool}}
	answer := deputy.decision with input as but(asks("admin", ""), changes) with data.grants as grants
	answer.effect == "deny"
	codes(answer)[0] == tc.code
}

test_a_tool_is_called_by_one_method_only[method] if {
	some method in ["resources/list", "prompts/get", "tools/Call"]
	changes := {"action": {"protocol": "mcp", "method": method, "phase": "call"}}
	answer := deputy.decision with input as but(asks("admin", "read_ticket"), changes) with data.grants as grants
	codes(answer) == ["DPT-TOOL-UNKNOWN"]
}

test_methods_have_their_class if {
	answer := deputy.decision with input as but(asks("triage", ""), mcp("resources/read", "call"))
		with data.grants as grants
	answer.effect == "allow"
}

test_lists_and_sessions_need_some_right[note] if {
	some note, tc in {
		"list": {"change": mcp("tools/list", "list"), "groups": ["reader"], "effect": "allow"},
		"session": {"change": mcp("initialize", "lifecycle"), "groups": ["reader"], "effect": "allow"},
		"list of a stranger": {"change": mcp("tools/list", "list"), "groups": [], "effect": "deny"},
	}
	question := but(but(asks("triage", ""), tc.change), {"human": person(tc.groups)})
	answer := deputy.decision with input as question with data.grants as grants
	answer.effect == tc.effect
}

test_the_first_http_rule_that_fits_speaks[note] if {
	some note, tc in {
		"exact": {"agent": "triage", "asked": http("GET", "/items"), "effect": "allow"},
		"below": {"agent": "resolver", "asked": http("GET", "/items/7"), "effect": "allow"},
		"below, of another class": {"agent": "triage", "asked": http("GET", "/items/7"), "effect": "deny"},
		"beside": {"agent": "admin", "asked": http("GET", "/itemsx"), "effect": "deny"},
		"another method": {"agent": "admin", "asked": http("POST", "/items"), "effect": "deny"},
	}
	answer := deputy.decision with input as but(asks(tc.agent, ""), tc.asked) with data.grants as grants
	answer.effect == tc.effect
}

of_ledger(protocol, method, type, name) := but(asks("admin", ""), {
	"action": {"protocol": protocol, "method": method, "phase": "call"},
	"resource": {"service": "ledger", "type": type, "name": name},
	"scopes": ["ledger:read"],
})

test_agents_models_and_grpc_are_looked_up_by_name[note] if {
	some note, tc in {
		"agent": {"asked": of_ledger("a2a", "GetTask", "agent", "acme"), "effect": "allow"},
		"another method": {"asked": of_ledger("a2a", "ListTasks", "agent", "acme"), "effect": "deny"},
		"another tenant": {"asked": of_ledger("a2a", "GetTask", "agent", "globex"), "effect": "deny"},
		"no tenant, which is not listed": {"asked": of_ledger("a2a", "GetTask", "agent", "ledger"), "effect": "deny"},
		"agent as a tool": {"asked": of_ledger("a2a", "GetTask", "tool", "acme"), "effect": "deny"},
		"model": {"asked": of_ledger("llm", "messages", "model", "m"), "effect": "allow"},
		"another model": {"asked": of_ledger("llm", "messages", "model", "n"), "effect": "deny"},
		"model as a server": {"asked": of_ledger("llm", "messages", "server", "m"), "effect": "deny"},
		"method of gRPC": {"asked": of_ledger("grpc", "rpc", "rpc", "/a.B/C"), "effect": "allow"},
		"another method of gRPC": {"asked": of_ledger("grpc", "rpc", "rpc", "/a.B/D"), "effect": "deny"},
		"gRPC as a path": {"asked": of_ledger("grpc", "POST", "path", "/a.B/C"), "effect": "deny"},
		"model over MCP": {"asked": of_ledger("mcp", "tools/call", "model", "m"), "effect": "deny"},
		"another protocol": {"asked": of_ledger("ftp", "get", "rpc", "/a.B/C"), "effect": "deny"},
	}
	answer := deputy.decision with input as tc.asked with data.grants as grants
	answer.effect == tc.effect
}
