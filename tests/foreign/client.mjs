// The official TypeScript SDK as it is, led through standard input and output: see clients.py for the words.
//
//     node client.mjs MODULE... URL        the modules that the package of this version exports its client from

import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";

const url = process.argv.at(-1);
const { Client, StreamableHTTPClientTransport, UnauthorizedError } = Object.assign(
  {},
  ...(await Promise.all(process.argv.slice(2, -1).map((name) => import(name)))),
);

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const next = async () => JSON.parse((await lines.next()).value ?? "null");

const REDIRECT = "http://127.0.0.1/callback";
const kept = {};
const provider = {
  redirectUrl: REDIRECT,
  clientMetadata: {
    client_name: "Foreign TypeScript client",
    redirect_uris: [REDIRECT],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  state: () => (kept.state = randomUUID()),
  clientInformation: () => kept.client,
  saveClientInformation: (client) => void (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => void (kept.tokens = tokens),
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  codeVerifier: () => kept.verifier,
  saveDiscoveryState: (state) => void (kept.discovery = state),
  discoveryState: () => kept.discovery,
  invalidateCredentials: (what) => {
    if (what === "tokens" || what === "all") delete kept.tokens;
    if (what === "client" || what === "all") delete kept.client;
  },
  redirectToAuthorization: async (authorization) => {
    say({ authorize: authorization.href });
    kept.callback = new URL((await next()).callback).searchParams;
  },
};

let client;
let transport;

async function connected() {
  if (client) return client;
  transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: provider });
  const fresh = new Client({ name: "foreign", version: "1" });
  await fresh.connect(transport);
  return (client = fresh);
}

// What the SDK leaves to the application: to redeem the code after a login, to connect again where a session is
// gone, and, in version 1, to drop tokens whose scope is too small, because it refreshes them where more is needed.
async function call(tool, retries = 3) {
  try {
    return await (await connected()).callTool(tool);
  } catch (error) {
    if (retries === 0) throw error;
    if (kept.callback) {
      const answer = kept.callback;
      delete kept.callback;
      // A stream that ends asks for a login of its own beside the call's; only the later one's code can be redeemed.
      if (answer.get("state") === kept.state) {
        await transport.finishAuth(answer.get("code"), answer.get("iss") ?? undefined);
      }
    } else if (error.code === 403) {
      delete kept.tokens;
    } else if (error.code !== 404 && !(error instanceof UnauthorizedError)) {
      throw error;
    }
    client = undefined;
    return call(tool, retries - 1);
  }
}

for (let order = await next(); order; order = await next()) {
  try {
    if (order.age) kept.tokens = { ...kept.tokens, access_token: "it-was-good-once" };
    const answer = order.call ? await call(order.call) : null;
    say({ answer, tokens: kept.tokens, client_id: kept.client?.client_id });
  } catch (error) {
    say({ error: String(error.stack ?? error) });
  }
}
process.exit(0);
