"use strict";
// A server of the TypeScript SDK as its documentation has it: express, express.json(), one transport a request.
//
// It listens on the Unix socket that it is given and has two tools. GET /seen says how many requests for /mcp
// came in, and which tools ran.

const express = require("express");
const { Server } = require("@modelcontextprotocol/sdk/server/index.js");
const { StreamableHTTPServerTransport } = require("@modelcontextprotocol/sdk/server/streamableHttp.js");
const { CallToolRequestSchema, ListToolsRequestSchema } = require("@modelcontextprotocol/sdk/types.js");

const seen = { requests: 0, ran: [] };
const tools = ["read_ticket", "secret"].map((name) => ({ name, inputSchema: { type: "object" } }));

const makeServer = () => {
  const server = new Server({ name: "tickets", version: "0" }, { capabilities: { tools: {} } });
  server.setRequestHandler(ListToolsRequestSchema, () => ({ tools }));
  server.setRequestHandler(CallToolRequestSchema, ({ params }) => {
    if (!tools.some((tool) => tool.name === params.name)) throw new Error("unknown tool");
    seen.ran.push(params.name);
    return { content: [{ type: "text", text: "it ran" }] };
  });
  return server;
};

const app = express();
app.use((request, _, next) => {
  if (request.path !== "/seen") seen.requests += 1;
  next();
});
app.get("/seen", (_, response) => response.json(seen));
app.use(express.json({ limit: "4mb" }));
app.all("/mcp", async (request, response) => {
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: undefined,
    enableJsonResponse: true,
  });
  response.on("close", () => transport.close());
  await makeServer().connect(transport);
  await transport.handleRequest(request, response, request.body);
});
// What a body parser refuses is said in a line, not with a stack.
app.use((error, _request, response, _next) => response.status(error.status ?? 500).end(error.type ?? "error"));
app.listen(process.argv[2]);
