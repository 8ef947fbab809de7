"use strict";
// A client of the TypeScript SDK: one step after the other, as tests/peers/mcp1_client.py.

const { readFileSync } = require("node:fs");
const { Agent, fetch } = require("undici");
const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
const types = require("@modelcontextprotocol/sdk/types.js");

const access = JSON.parse(readFileSync(0, "utf8"));
const contents = (files) => Object.fromEntries(Object.entries(files).map(([name, path]) => [name, readFileSync(path)]));
const dispatcher = new Agent(access.tls ? { connect: contents(access.tls) } : {});

const LISTS = {
  tools: (client) => client.listTools(),
  resources: (client) => client.listResources(),
  resource_templates: (client) => client.listResourceTemplates(),
  prompts: (client) => client.listPrompts(),
};

const STEPS = {
  list: (client, { what }) => LISTS[what](client),
  call: async (client, { name, arguments: given }) => {
    const progress = [];
    const onprogress = (told) => progress.push([told.progress, told.total]);
    return { result: await client.callTool({ name, arguments: given }, undefined, { onprogress }), progress };
  },
  read: (client, { uri }) => client.readResource({ uri }),
  prompt: (client, { name, arguments: given }) => client.getPrompt({ name, arguments: given }),
  complete: (client, { name, argument }) => client.complete({ ref: { type: "ref/prompt", name }, argument }),
  ping: (client) => client.ping(),
};

const attempt = async (client, step) => {
  try {
    return { ok: await STEPS[step.do](client, step) };
  } catch (error) {
    if (!(error instanceof types.McpError)) throw error;
    return { error: { code: error.code, message: error.message, data: error.data } };
  }
};

const main = async () => {
  const capabilities = { elicitation: {}, sampling: {}, roots: {} };
  const client = new Client({ name: "typescript", version: "0" }, { capabilities });
  client.setRequestHandler(types.ElicitRequestSchema, () => ({
    action: "accept",
    content: { name: "Ada", check: true, integer: 7 },
  }));
  client.setRequestHandler(types.CreateMessageRequestSchema, () => ({
    role: "assistant",
    content: { type: "text", text: "a short answer" },
    model: "none",
  }));
  client.setRequestHandler(types.ListRootsRequestSchema, () => ({ roots: [{ uri: "file:///work" }] }));
  const transport = new StreamableHTTPClientTransport(new URL(`${access.url}/mcp`), {
    fetch: (url, options) => fetch(url, { ...options, dispatcher }),
    requestInit: access.token ? { headers: { authorization: `Bearer ${access.token}` } } : {},
  });
  await client.connect(transport);
  const serverInfo = client.getServerVersion();
  const results = [{ ok: { serverInfo, capabilities: client.getServerCapabilities() } }];
  for (const step of access.steps) results.push(await attempt(client, step));
  await transport.terminateSession();
  await client.close();
  await dispatcher.close();
  process.stdout.write(JSON.stringify(results));
};

main();
