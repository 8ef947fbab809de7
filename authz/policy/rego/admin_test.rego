package deputy.admin_test

import data.deputy.admin

grants := {
	"admin": {
		"operators": {
			"people": {"https://idp.example#olga": true},
			"groups": {"platform": true},
			"workloads": {"spiffe://mesh.example/ns/ci/sa/deploy": true},
		},
		"auditors": {"people": {"https://idp.example#ada": true}, "groups": {}, "workloads": {}},
		"transmitters": {"people": {}, "groups": {}, "workloads": {"spiffe://mesh.example/ns/idp/sa/signals": true}},
	},
	"tiers": {
		"observer": {"read": "allow"},
		"helper": {"read": "allow", "write": "approve"},
		"contributor": {"read": "allow", "write": "allow"},
	},
}

human(name) := {"kind": "human", "id": concat("#", ["https://idp.example", name]), "groups": []}

socket := {"kind": "local", "id": "uid:1000", "groups": []}

deploy := {"kind": "workload", "id": "spiffe://mesh.example/ns/ci/sa/deploy", "groups": []}

agent := {
	"name": "triage",
	"owner": "https://idp.example#oona",
	"sponsor": "https://idp.example#sid",
	"ceiling": "helper",
	"autonomous": false,
	"hosts": ["spiffe://mesh.example/ns/agents/sa/runner"],
	"clients": [{"issuer": "https://idp.example", "client_id": "desk"}],
	"max_depth": 4,
	"expires_at": 1800000000,
	"sandbox": "gvisor",
}

nothing := {
	"agent": null,
	"proposed": null,
	"human": null,
	"workload": null,
	"contained_by": null,
	"kind": null,
	"id": null,
}

everything := object.union(nothing, {
	"agent": agent,
	"proposed": agent,
	"human": "https://idp.example#pat",
	"workload": "spiffe://mesh.example/ns/agents/sa/runner",
	"id": "01JD8Z7Y3M5E0QX2V9T4B6N8KA",
})

# What no role gives: to speak for a person, and, to what is no person, to approve.
never(actor) := {"human": ["grants/create"], "workload": ["grants/create", "approvals/approve"]}[actor.kind]

asks(actor, action, target) := {
	"version": "deputy.admin/v1",
	"actor": actor,
	"action": action,
	"target": object.union(nothing, target),
}

owned_by(name) := object.union(agent, {"owner": human(name).id})

changes(actor, owner, parts) := asks(actor, "agents/change", {
	"agent": owned_by(owner),
	"proposed": object.union(owned_by(owner), parts),
})

not_in(value, list) := false if {
	value in list
} else := true

rules(answer) := [found.rule | some found in answer.reasons]

test_denies_without_roles[note] if {
	some note, held in {"no data": {}, "no roles": {"admin": {}}}
	every actor in [human("olga"), deploy] {
		answer := admin.decision with input as asks(actor, "policy/reload", {}) with data.grants as held
		answer.effect == "deny"
	}
}

test_the_socket_may_all_but_speak_for_a_person if {
	every action in admin.actions {
		answer := admin.decision with input as asks(socket, action, everything) with data.grants as {}
		expected := {true: "allow", false: "deny"}[action != "grants/create"]
		answer.effect == expected
	}
}

test_an_operator_may_all_but_speak_for_a_person[note] if {
	some note, actor in {
		"a person": human("olga"),
		"a group": object.union(human("gus"), {"groups": ["other", "platform"]}),
		"a workload": deploy,
	}
	every action in admin.actions {
		answer := admin.decision with input as asks(actor, action, everything) with data.grants as grants
		expected := {true: "allow", false: "deny"}[not_in(action, never(actor))]
		answer.effect == expected
	}
}

readable := ["agents/list", "approvals/list", "grants/list", "pins/list", "pins/show"]

test_auditors_list_and_transmitters_report if {
	signals := {"kind": "workload", "id": "spiffe://mesh.example/ns/idp/sa/signals", "groups": []}
	every action in admin.actions {
		listed := admin.decision with input as asks(human("ada"), action, everything) with data.grants as grants
		list_only := {true: "allow", false: "deny"}[action in readable]
		listed.effect == list_only
		told := admin.decision with input as asks(signals, action, everything) with data.grants as grants
		report_only := {true: "allow", false: "deny"}[action == "events/receive"]
		told.effect == report_only
	}
}

test_an_owner_lowers[note] if {
	some note, parts in {
		"nothing": {},
		"sponsor": {"sponsor": "other"},
		"depth": {"max_depth": 1},
		"expiry": {"expires_at": 1700000000},
	}
	answer := admin.decision with input as changes(human("oona"), "oona", parts) with data.grants as grants
	answer.effect == "allow"
}

test_an_owner_raises_nothing[note] if {
	some note, parts in raises
	answer := admin.decision with input as changes(human("oona"), "oona", parts) with data.grants as grants
	rules(answer) == ["owner_may"]
}

test_four_eyes_an_operator_raises_what_another_owns_only[note] if {
	some note, parts in raises
	refused := admin.decision with input as changes(human("olga"), "olga", parts) with data.grants as grants
	rules(refused) == ["raises_own"]
	allowed := admin.decision with input as changes(human("olga"), "oona", parts) with data.grants as grants
	allowed.effect == "allow"
}

raises := {
	"ceiling": {"ceiling": "contributor"},
	"unknown ceiling": {"ceiling": "tomorrow"},
	"autonomous": {"autonomous": true},
	"autonomous as text": {"autonomous": "true"},
	"hosts": {"hosts": ["spiffe://mesh.example/ns/agents/sa/other"]},
	"hosts as text": {"hosts": "spiffe://mesh.example/ns/agents/sa/runner"},
	"clients": {"clients": [{"issuer": "https://idp.example", "client_id": "other"}]},
	"depth": {"max_depth": 5},
	"depth as text": {"max_depth": "1"},
	"expiry": {"expires_at": 1800000001},
	"no expiry": {"expires_at": null},
	"expiry as text": {"expires_at": "0"},
	"sandbox": {"sandbox": null},
	"owner": {"owner": "https://idp.example#accomplice"},
}

test_a_person_has_their_own_only[note] if {
	some note, tc in {
		"own": {"human": "https://idp.example#pat", "effect": "allow"},
		"another's": {"human": "https://idp.example#oona", "effect": "deny"},
		"everybody's": {"human": null, "effect": "deny"},
		"in other letters": {"human": "https://idp.example#Pat", "effect": "deny"},
	}
	every action in [
		"approvals/approve", "approvals/deny", "approvals/list", "approvals/show",
		"grants/create", "grants/list", "grants/revoke", "tokens/revoke",
	] {
		question := asks(human("pat"), action, {"human": tc.human, "agent": agent, "id": "01"})
		answer := admin.decision with input as question with data.grants as grants
		answer.effect == tc.effect
	}
}

test_four_eyes_who_owns_the_agent_approves_for_nobody_else[note] if {
	some note, tc in {
		"another's": {"actor": human("olga"), "human": "https://idp.example#pat", "rules": ["approves_own"]},
		"nobody's": {"actor": human("olga"), "human": null, "rules": ["approves_own"]},
		"an owner's": {"actor": human("oona"), "human": "https://idp.example#pat", "rules": ["permitted"]},
		"their own": {"actor": human("olga"), "human": "https://idp.example#olga", "rules": []},
		"a pipeline": {"actor": deploy, "human": "https://idp.example#pat", "rules": ["approves_unseen"]},
	}
	owned := object.union(agent, {"owner": tc.actor.id})
	question := asks(tc.actor, "approvals/approve", {"agent": owned, "human": tc.human, "id": "01"})
	answer := admin.decision with input as question with data.grants as grants
	rules(answer) == tc.rules
}

test_nobody_releases_themselves[note] if {
	some note, question in {
		"a person": asks(human("olga"), "people/release", {"human": human("olga").id}),
		"a workload": asks(deploy, "workloads/release", {"workload": deploy.id}),
		"an agent": asks(human("olga"), "agents/release", {"agent": owned_by("olga"), "contained_by": "uid:1000"}),
		"by containing": asks(human("olga"), "agents/contain", {"agent": owned_by("olga"), "contained_by": "uid:1"}),
	}
	answer := admin.decision with input as question with data.grants as grants
	rules(answer) == ["releases_own"]
}

test_denies_what_is_no_question[note] if {
	some note, changed in {
		"version": {"version": "deputy.input/v1"},
		"action": {"action": "policy/forget"},
		"kind": {"actor": {"kind": "agent", "id": "uid:0"}},
		"nobody is meant": {"action": "people/release"},
		"a change of nothing": {"action": "agents/change"},
		"an acceptance of nothing": {"action": "pins/accept"},
		"a forgetting of nothing": {"action": "pins/forget"},
		"an approval of nothing": {"action": "approvals/deny"},
		"an approval of nobody's agent": {"action": "approvals/approve", "target": {"id": "01", "agent": null}},
	}
	question := object.union(asks(socket, "epochs/show", {}), changed)
	answer := admin.decision with input as question with data.grants as grants
	[found.code | some found in answer.reasons] == ["DPT-POLICY-SHAPE"]
}
