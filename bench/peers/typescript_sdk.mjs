// An echo on the official TypeScript SDK and express: stateless, JSON answers, a bearer check, no audit.
//
// Environment: PEER_KEY (a public JWK), PEER_ISSUER, PEER_AUDIENCE. Prints its URL.
import { requireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import express from "express";
import { importJWK, jwtVerify } from "jose";
import { z } from "zod";

const { PEER_KEY, PEER_ISSUER: issuer, PEER_AUDIENCE: audience } = process.env;
const key = await importJWK(JSON.parse(PEER_KEY), "ES256");
const known = new Map();

async function verifyAccessToken(token) {
  if (!known.has(token)) {
    const { payload } = await jwtVerify(token, key, { issuer, audience, algorithms: ["ES256"] });
    const { client_id: clientId, scope, exp: expiresAt } = payload;
    known.set(token, { token, clientId, scopes: scope.split(" "), expiresAt });
  }
  return known.get(token);
}

function server() {
  const made = new McpServer({ name: "peer", version: "1" });
  const shape = { description: "Give the message back.", inputSchema: { message: z.string() } };
  made.registerTool("echo", shape, ({ message }) => ({ content: [{ type: "text", text: message }], isError: false }));
  return made;
}

const app = express();
app.use(express.json());
const bearer = requireBearerAuth({ verifier: { verifyAccessToken }, requiredScopes: ["tools:call"] });
app.post("/mcp", bearer, async (request, response) => {
  const own = server();
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
  response.on("close", () => {
    transport.close();
    own.close();
  });
  await own.connect(transport);
  await transport.handleRequest(request, response, request.body);
});

const listener = app.listen(0, "127.0.0.1", () => {
  console.log(`peer serves MCP at http://127.0.0.1:${listener.address().port}/mcp`);
});
process.on("SIGTERM", () => {
  listener.close(() => process.exit(0));
  listener.closeAllConnections();
});
