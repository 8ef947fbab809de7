# How: the scope of the token, the strength of its binding, the limits of the arguments, the data that are sent.
package deputy

# An agent's own SVID carries no scopes. It stands for nobody, so there is no person's token that could narrow it.
scope_held if {
	unscoped
} else if {
	some c in authority
	in_scope(c)
}

unscoped if {
	input.binding == "svid"
	input.human == null
}

in_scope(c) if {
	concat(":", [input.resource.service, c]) in input.scopes
}

needed_scopes := [concat(":", [input.resource.service, c]) | some c in authority]

binding_strong if {
	binding_allows(operation.class)
} else if {
	surveys
}

binding_allows(class) if {
	input.binding == "key"
} else if {
	class != "destroy"
}

# A path starts at the question itself, so that missing arguments are read like any missing member: as null,
# which is within no limit.
arguments_within if {
	every limit in operation.limits {
		within(limit, object.get(input, limit.path, null))
	}
} else if {
	surveys
}

# Of every message: a server can ask for what is no argument of a call, and gets it in an answer.
payload_passes if {
	input.payload == []
} else if {
	is_array(input.payload)
	count(withheld) == 0
} else if {
	input.phase == "exchange"
}

withheld := [class | some class in input.payload; service.payload[class] == "deny"]

within(limit, value) if {
	limit.kind == "max"
	is_number(value)
	value <= limit.value
} else if {
	limit.kind == "min"
	is_number(value)
	value >= limit.value
} else if {
	limit.kind == "one_of"
	value in limit.value
} else if {
	limit.kind == "prefix"
	is_string(value)
	is_string(limit.value)
	startswith(value, limit.value)
} else if {
	# Longer is no match: what a search costs grows with the text and with the pattern.
	limit.kind == "matches"
	is_string(value)
	substring(value, 0, 1024) == value
	regex.match(limit.pattern, value)
} else if {
	limit.kind == "only"
	is_array(value)
	count(value) <= 64
	every item in value {
		item in limit.value
	}
}
