# What is asked for: the class (read, write, destroy) of the operation, looked up by its name.
package deputy

service := data.grants.services[input.resource.service]

calls if {
	input.phase == "check"
	input.action.phase == "call"
}

# Whether some call could be allowed: before a token is issued, when tools are listed, when a session opens.
surveys if {
	input.phase == "check"
	input.action.phase in ["list", "lifecycle"]
} else if {
	input.phase == "exchange"
}

operation := found if {
	calls
	names_tool
	found := service.tools[input.resource.name]
	found.class
} else := found if {
	names_method
	found := service.methods[input.action.method]
	found.class
} else := found if {
	calls
	input.action.protocol == "http"
	found := http_rules[0]
	found.class
} else := found if {
	calls
	input.action.protocol == "a2a"
	input.resource.type == "agent"
	service.tenants[input.resource.name]
	found := service.a2a[input.action.method]
	found.class
} else := found if {
	calls
	names_model
	found := service.models[input.resource.name]
	found.class
} else := found if {
	calls
	input.action.protocol == "grpc"
	input.resource.type == "rpc"
	found := service.grpc[input.resource.name]
	found.class
}

# What is named says where the class is looked up; of a method that is its own name, whatever it is called with.
names_tool if {
	input.action.protocol == "mcp"
	input.action.method == "tools/call"
	input.resource.type == "tool"
}

names_method if {
	input.action.phase == "call"
	input.phase in ["check", "visible"]
	input.action.protocol == "mcp"
	input.action.method != "tools/call"
}

names_model if {
	input.action.protocol == "llm"
	input.resource.type == "model"
}

# The first rule that fits speaks. The list is that of one method of one service, and grants.py bounds it.
http_rules := [rule | some rule in service.http[input.action.method]; http_fits(rule)]

http_fits(rule) if {
	rule.path == input.resource.name
} else if {
	rule.below
	startswith(input.resource.name, rule.path)
}

# The classes in question: that of the operation, or any.
wanted := [operation.class] if {
	operation.class
} else := classes if {
	surveys
	service
}
