# Which names of a list may be seen: data.deputy.visible, for questions whose phase is "visible".
#
# - A name is visible if some call of it, with some arguments, could be allowed or approved. What one call brings along
#   (its arguments, the data in them) is not looked at; all the rest is, by the rules for calls.
# - Nothing is visible but what is said to be here: of a kind that nobody lists by name, nothing.
# - What does not depend on a name is found once, so that a list costs a look-up a name.
package deputy

visible := input.resource.names if {
	lists
	is_array(input.resource.names)
	names_method
	permitted
} else := [name |
	some name in input.resource.names
	offered[name].class in usable
] if {
	lists
	input.human != null
} else := [name |
	some name in input.resource.names
	offered[name].class in usable
	not offered[name].human
] if {
	lists
	for_nobody
} else := []

lists if {
	understood
	input.phase == "visible"
	input.action.phase == "call"
}

offered := found if {
	names_tool
	found := service.tools
	found
} else := found if {
	names_model
	found := service.models
	found
}

usable contains c if {
	some c in classes
	human_has(c)
	chain_has(c)
	scope_allows(c)
	binding_allows(c)
}

scope_allows(c) if {
	unscoped
} else if {
	in_scope(c)
}
