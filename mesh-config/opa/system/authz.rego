# Who may ask this OPA, and for what. OPA asks this policy itself, where it runs with
# `--authentication=tls --authorization=basic`.
#
# - Only Deputy, by the one SPIFFE ID in its client certificate; change the three parts below to yours.
# - Only what Deputy does: ask for the decision, look which policy runs, put the grants there. Nobody, Deputy
#   included, can change the Rego, read the grants, or reach any other path; the log and metrics are OPA's own.
# - A proxy in front of OPA would be the one that asks. There must be none.
package system.authz

default allow := false

deputy := ["spiffe", "mesh.example", "/deputy"]

allow if {
	is_deputy
	input.method == "POST"
	input.path == ["v1", "data", "deputy_answer"]
}

allow if {
	is_deputy
	input.method == "GET"
	input.path == ["v1", "data", "deputy_answer", "policy"]
}

# One patch of the data as a whole: the grants together with their digest.
allow if {
	is_deputy
	input.method == "PATCH"
	input.path == ["v1", "data"]
}

# Exactly one URI: a certificate with two names is no X.509-SVID.
is_deputy if {
	count(input.client_certificates[0].URIs) == 1
	uri := input.client_certificates[0].URIs[0]
	[uri.Scheme, uri.Host, uri.Path] == deputy
	is_bare(uri)
}

is_bare(uri) if {
	object.get(uri, "RawQuery", "") == ""
	object.get(uri, "Fragment", "") == ""
	object.get(uri, "User", null) == null
}
