"use strict";
// The server that the official conformance suite asks for in the texts of its scenarios, with the TypeScript SDK.
//
// It listens on the port of 127.0.0.1 that it is given, keeps sessions and the events of their streams, and
// answers only to a Host and an Origin of this machine.

const { randomUUID } = require("node:crypto");
const { setTimeout: pause } = require("node:timers/promises");
const express = require("express");
const { Server } = require("@modelcontextprotocol/sdk/server/index.js");
const { StreamableHTTPServerTransport } = require("@modelcontextprotocol/sdk/server/streamableHttp.js");
const { InMemoryEventStore } = require("@modelcontextprotocol/sdk/examples/shared/inMemoryEventStore.js");
const types = require("@modelcontextprotocol/sdk/types.js");

const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";

const text = (value) => ({ type: "text", text: value });
const image = { type: "image", data: PNG, mimeType: "image/png" };
const audio = { type: "audio", data: WAV, mimeType: "audio/wav" };
const resource = (uri, mimeType, value) => ({ type: "resource", resource: { uri, mimeType, text: value } });
const said = (...content) => ({ content });
const properties = (...names) => ({
  type: "object",
  properties: Object.fromEntries(names.map((name) => [name, { type: "string" }])),
  required: names,
});

// ---- tools

const elicit = (extra, message, requestedSchema) =>
  extra.sendRequest({ method: "elicitation/create", params: { message, requestedSchema } }, types.ElicitResultSchema);

const elicited = async (extra, fields) => {
  const answer = await elicit(extra, "what is it?", { type: "object", properties: fields });
  return said(text(`Elicitation completed: action=${answer.action}, content=${JSON.stringify(answer.content)}`));
};

const titled = ["First", "Second", "Third"].map((title, index) => ({ const: `value${index + 1}`, title }));
const OPTIONS = ["option1", "option2", "option3"];
const ENUMS = {
  untitledSingle: { type: "string", enum: OPTIONS },
  titledSingle: { type: "string", oneOf: titled },
  legacyEnum: { type: "string", enum: ["opt1", "opt2", "opt3"], enumNames: ["One", "Two", "Three"] },
  untitledMulti: { type: "array", items: { type: "string", enum: OPTIONS } },
  titledMulti: { type: "array", items: { anyOf: titled } },
};
const DEFAULTS = {
  name: { type: "string", default: "John Doe" },
  age: { type: "integer", default: 30 },
  score: { type: "number", default: 95.5 },
  status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
  verified: { type: "boolean", default: true },
};

const TOOLS = {
  test_simple_text: () => said(text("This is a simple text response for testing.")),
  test_image_content: () => said(image),
  test_audio_content: () => said(audio),
  test_embedded_resource: () =>
    said(resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")),
  test_multiple_content_types: () =>
    said(text("Multiple content types test:"), image, resource("test://mixed", "application/json", '{"value":123}')),
  test_tool_with_logging: async (_, extra) => {
    for (const data of ["Tool execution started", "Tool processing data", "Tool execution completed"]) {
      await extra.sendNotification({ method: "notifications/message", params: { level: "info", data } });
      await pause(50);
    }
    return said(text("logged"));
  },
  test_tool_with_progress: async (_, extra) => {
    const progressToken = extra._meta?.progressToken;
    for (const progress of [0, 50, 100]) {
      const params = { progressToken, progress, total: 100 };
      if (progressToken !== undefined) await extra.sendNotification({ method: "notifications/progress", params });
      await pause(50);
    }
    return said(text("done"));
  },
  test_error_handling: () => ({
    isError: true,
    ...said(text("This tool intentionally returns an error for testing")),
  }),
  test_sampling: async ({ prompt }, extra) => {
    const messages = [{ role: "user", content: text(prompt) }];
    const request = { method: "sampling/createMessage", params: { messages, maxTokens: 100 } };
    const answer = await extra.sendRequest(request, types.CreateMessageResultSchema);
    return said(text(`LLM response: ${answer.content.text}`));
  },
  test_elicitation: async ({ message }, extra) => {
    const answer = await elicit(extra, message, properties("username", "email"));
    return said(text(`User response: ${JSON.stringify(answer)}`));
  },
  test_elicitation_sep1034_defaults: (_, extra) => elicited(extra, DEFAULTS),
  test_elicitation_sep1330_enums: (_, extra) => elicited(extra, ENUMS),
  test_reconnection: async (_, extra) => {
    // The client comes back for the answer, with the last event that it saw.
    extra.closeSSEStream?.();
    await pause(100);
    return said(text("Reconnection test completed successfully"));
  },
  json_schema_2020_12_tool: () => said(text("schema")),
};

const SCHEMAS = {
  test_sampling: properties("prompt"),
  test_elicitation: properties("message"),
  json_schema_2020_12_tool: {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    type: "object",
    $defs: { address: { type: "object", properties: { street: { type: "string" }, city: { type: "string" } } } },
    properties: { name: { type: "string" }, address: { $ref: "#/$defs/address" } },
    additionalProperties: false,
  },
};

// ---- prompts and resources

const user = (content) => ({ role: "user", content });
const PROMPTS = {
  test_simple_prompt: [[], () => [user(text("This is a simple prompt for testing."))]],
  test_prompt_with_arguments: [
    ["arg1", "arg2"],
    ({ arg1, arg2 }) => [user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`))],
  ],
  test_prompt_with_embedded_resource: [
    ["resourceUri"],
    ({ resourceUri }) => [
      user(resource(resourceUri, "text/plain", "Embedded resource content for testing.")),
      user(text("Please process the embedded resource above.")),
    ],
  ],
  test_prompt_with_image: [[], () => [user(image), user(text("Please analyze the image above."))]],
};

const listed = (uri, mimeType) => ({ uri, name: uri, description: "for the tests", mimeType });
const RESOURCES = [
  listed("test://static-text", "text/plain"),
  listed("test://static-binary", "image/png"),
  listed("test://watched-resource", "text/plain"),
];
const TEMPLATE = { uriTemplate: "test://template/{id}/data", name: "template", mimeType: "application/json" };

const read = (uri) => {
  const [, id] = /^test:\/\/template\/([^/]+)\/data$/.exec(uri) ?? [];
  if (id !== undefined) return { uri, mimeType: "application/json", text: JSON.stringify({ id, templateTest: true }) };
  const known = RESOURCES.find((entry) => entry.uri === uri);
  if (known === undefined) throw new types.McpError(types.ErrorCode.InvalidParams, "no such resource");
  const content = known.mimeType === "image/png" ? { blob: PNG } : { text: `This is the content of ${uri}.` };
  return { uri, mimeType: known.mimeType, ...content };
};

// ---- the server

const makeServer = () => {
  const capabilities = { tools: {}, prompts: {}, resources: { subscribe: true }, logging: {}, completions: {} };
  const server = new Server({ name: "conforming", version: "0" }, { capabilities });
  const schemaOf = (name) => SCHEMAS[name] ?? { type: "object" };
  const handlers = [
    [types.ListToolsRequestSchema, () => ({
      tools: Object.keys(TOOLS).map((name) => ({ name, description: `${name}.`, inputSchema: schemaOf(name) })),
    })],
    [types.CallToolRequestSchema, ({ params }, extra) => TOOLS[params.name](params.arguments ?? {}, extra)],
    [types.ListPromptsRequestSchema, () => ({
      prompts: Object.entries(PROMPTS).map(([name, [names]]) => ({
        name,
        description: `${name}.`,
        arguments: names.map((argument) => ({ name: argument, required: true })),
      })),
    })],
    [types.GetPromptRequestSchema, ({ params }) => ({ messages: PROMPTS[params.name][1](params.arguments ?? {}) })],
    [types.ListResourcesRequestSchema, () => ({ resources: RESOURCES })],
    [types.ListResourceTemplatesRequestSchema, () => ({ resourceTemplates: [TEMPLATE] })],
    [types.ReadResourceRequestSchema, ({ params }) => ({ contents: [read(params.uri)] })],
    [types.SubscribeRequestSchema, () => ({})],
    [types.UnsubscribeRequestSchema, () => ({})],
    [types.CompleteRequestSchema, () => ({ completion: { values: ["paris", "park"], total: 2, hasMore: false } })],
  ];
  for (const [schema, handler] of handlers) server.setRequestHandler(schema, handler);
  return server;
};

const LOCAL = new Set(["localhost", "127.0.0.1", "[::1]"]);
const isLocal = (url) => URL.canParse(url) && LOCAL.has(new URL(url).hostname);

const sessions = new Map();
const app = express();
app.use((request, response, next) => {
  const { host, origin } = request.headers;
  if (isLocal(`http://${host}`) && (origin === undefined || isLocal(origin))) return next();
  return response.status(403).json({ jsonrpc: "2.0", error: { code: -32000, message: "not from here" }, id: null });
});
app.use(express.json());
app.all("/mcp", async (request, response) => {
  let transport = sessions.get(request.headers["mcp-session-id"]);
  if (transport === undefined && types.isInitializeRequest(request.body)) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new InMemoryEventStore(),
      retryInterval: 100,
      onsessioninitialized: (id) => sessions.set(id, transport),
      onsessionclosed: (id) => sessions.delete(id),
    });
    await makeServer().connect(transport);
  }
  if (transport === undefined) {
    response.status(404).json({ jsonrpc: "2.0", error: { code: -32001, message: "no session" }, id: null });
    return;
  }
  await transport.handleRequest(request, response, request.body);
});
app.listen(Number(process.argv[2]), "127.0.0.1");
