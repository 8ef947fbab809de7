package system.authz_test

import data.system.authz

deputy := {"Scheme": "spiffe", "Host": "mesh.example", "Path": "/deputy", "RawQuery": "", "Fragment": "", "User": null}

asked(uris, method, path) := {"client_certificates": [{"URIs": uris}], "method": method, "path": path}

test_deputy_may_do_what_it_does if {
	every call in [
		["POST", ["v1", "data", "deputy_answer"]],
		["GET", ["v1", "data", "deputy_answer", "policy"]],
		["PATCH", ["v1", "data"]],
	] {
		authz.allow with input as asked([deputy], call[0], call[1])
	}
}

test_deputy_may_do_nothing_else if {
	every call in [
		["GET", ["v1", "data"]],
		["GET", ["v1", "data", "grants"]],
		["GET", ["v1", "data", "deputy_answer"]],
		["PUT", ["v1", "data", "grants"]],
		["PATCH", ["v1", "data", "grants"]],
		["PUT", ["v1", "policies", "deputy"]],
		["DELETE", ["v1", "policies", "decision.rego"]],
		["POST", ["v1", "query"]],
		["POST", ["v1", "data", "deputy_answer", "decision"]],
		["POST", [""]],
		["GET", []],
	] {
		not authz.allow with input as asked([deputy], call[0], call[1])
	}
}

test_nobody_else_may_do_anything if {
	every uris in [
		[],
		[object.union(deputy, {"Path": "/deputy/"})],
		[object.union(deputy, {"Path": "/ns/shop/sa/web"})],
		[object.union(deputy, {"Host": "other.example"})],
		[object.union(deputy, {"Scheme": "https"})],
		[object.union(deputy, {"RawQuery": "x"})],
		[deputy, deputy],
		[object.union(deputy, {"Path": "/x"}), deputy],
	] {
		not authz.allow with input as asked(uris, "POST", ["v1", "data", "deputy_answer"])
	}
}

test_no_certificate_may_do_nothing if {
	not authz.allow with input as {"method": "POST", "path": ["v1", "data", "deputy_answer"]}
	not authz.allow with input as {"client_certificates": [], "method": "POST", "path": ["v1", "data", "deputy_answer"]}
}
