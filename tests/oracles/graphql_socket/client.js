// The two reference clients: asks for what the arguments say, one after the other, and tells what it heard of each.
"use strict";

const { createClient } = require("graphql-ws");
const { SubscriptionClient } = require("subscriptions-transport-ws");
const WebSocket = require("ws");

const { url, protocol, header, params, operations, stays } = JSON.parse(process.argv[2]);
const say = (said) => process.stdout.write(JSON.stringify(said) + "\n");

class Sent extends WebSocket {
  constructor(address, protocols) {
    super(address, protocols, { headers: header ? { Authorization: header } : {} });
    this.on("close", (code, reason) => say({ closed: code, reason: reason.toString() }));
  }
}

const told = (error) => (Array.isArray(error) ? error : [error]).map((one) => one.extensions?.code ?? one.code ?? one.message);

function newer() {
  const client = createClient({ url, webSocketImpl: Sent, connectionParams: params, retryAttempts: 0, lazy: false, onNonLazyError: () => {} });
  const ask = (query) =>
    new Promise((resolve) => {
      const heard = [];
      client.subscribe(
        { query },
        {
          next: (answer) => (stays ? say(answer) : heard.push(answer)),
          error: (error) => resolve({ heard, error: told(error) }),
          complete: () => resolve({ heard }),
        },
      );
    });
  return [ask, () => client.dispose()];
}

function older() {
  const client = new SubscriptionClient(url, { connectionParams: params, reconnect: false }, Sent);
  const ask = (query) =>
    new Promise((resolve) => {
      const heard = [];
      client.request({ query }).subscribe({
        next: (answer) => (answer.errors ? resolve({ heard, error: told(answer.errors) }) : stays ? say(answer) : heard.push(answer)),
        error: (error) => resolve({ heard, error: told(error) }),
        complete: () => resolve({ heard }),
      });
    });
  return [ask, () => client.close()];
}

(async () => {
  const [ask, close] = protocol === "graphql-ws" ? older() : newer();
  for (const query of operations) say(await ask(query));
  close();
})();
