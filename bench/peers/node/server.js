// The origin's design, for comparison: one process, express, jose, and one synchronous insert before each answer.
//
// Environment: PEER_KEY (a public JWK), PEER_ISSUER, PEER_AUDIENCE, PEER_DATA (a directory). Prints its URL.
import Database from "better-sqlite3";
import express from "express";
import { createHash } from "node:crypto";
import { importJWK, jwtVerify } from "jose";

const { PEER_KEY, PEER_ISSUER: issuer, PEER_AUDIENCE: audience, PEER_DATA, PEER_SYNCHRONOUS = "FULL" } = process.env;
const key = await importJWK(JSON.parse(PEER_KEY), "ES256");
const db = new Database(`${PEER_DATA}/audit.db`);
db.pragma("journal_mode = WAL");
db.pragma(`synchronous = ${PEER_SYNCHRONOUS}`);
db.exec("CREATE TABLE IF NOT EXISTS record (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)");
const insert = db.prepare("INSERT INTO record (body) VALUES (?)");

const needed = { echo: "tools:call" };
const tenants = { "tenant-a": ["echo"], "tenant-b": ["echo"] };

async function principal(request) {
  const [scheme, token] = (request.headers.authorization ?? "").split(" ");
  if (scheme.toLowerCase() !== "bearer" || !token) return null;
  try {
    const { payload } = await jwtVerify(token, key, { issuer, audience, algorithms: ["ES256"] });
    return payload;
  } catch {
    return null;
  }
}

function record(claims, name, args, decision) {
  insert.run(
    JSON.stringify({
      time_us: Date.now() * 1000,
      tenant: claims.tenant,
      subject: claims.sub,
      client: claims.client_id,
      tool: name,
      decision,
      arguments_sha256: createHash("sha256").update(JSON.stringify(args)).digest("hex"),
    }),
  );
}

const app = express();
app.disable("x-powered-by");
app.use(express.json({ limit: "1mb" }));
app.post("/mcp", async (request, response) => {
  const claims = await principal(request);
  if (claims === null) return response.status(401).set("www-authenticate", "Bearer").end();
  const { id, method, params } = request.body;
  if (method !== "tools/call") {
    return response.json({ jsonrpc: "2.0", id, error: { code: -32601, message: "Method not found" } });
  }
  const { name, arguments: args = {} } = params;
  const scopes = String(claims.scope ?? "").split(" ");
  const allowed = (tenants[claims.tenant] ?? []).includes(name) && scopes.includes(needed[name]);
  record(claims, name, args, allowed ? "allowed" : "denied");
  if (!allowed) {
    return response.json({ jsonrpc: "2.0", id, error: { code: -32602, message: `Unknown tool: ${name}` } });
  }
  const result = { content: [{ type: "text", text: String(args.message) }], isError: false };
  response.json({ jsonrpc: "2.0", id, result });
});

const listener = app.listen(0, "127.0.0.1", () => {
  console.log(`peer serves MCP at http://127.0.0.1:${listener.address().port}/mcp`);
});
process.on("SIGTERM", () => {
  listener.close(() => process.exit(0));
  listener.closeAllConnections();
});
