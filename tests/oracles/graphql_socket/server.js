// The two reference servers of GraphQL over WebSockets. Says its port, and then what each client said in its init.
"use strict";

const http = require("node:http");
const { buildSchema, execute, subscribe } = require("graphql");
const { useServer } = require("graphql-ws/use/ws");
const { SubscriptionServer } = require("subscriptions-transport-ws");
const { WebSocketServer } = require("ws");

const schema = buildSchema(`
  type Query { item: String }
  type Mutation { add(n: Int!): Int }
  type Subscription { count(to: Int!): Int, ticks: Int, secret: Int }
`);
let sum = 0;
const roots = {
  item: () => "an item",
  add: ({ n }) => (sum += n),
  async *count({ to }) {
    for (let n = 1; n <= to; n += 1) yield { count: n };
  },
  async *ticks() {
    for (let n = 0; ; n += 1) {
      yield { ticks: n };
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  },
  async *secret() {
    yield { secret: 1 };
  },
};
// subscriptions-transport-ws looks a subscription's resolver up on its field.
schema.getSubscriptionType().getFields().count.subscribe = (_, args) => roots.count(args);
schema.getSubscriptionType().getFields().ticks.subscribe = () => roots.ticks();

const say = (said) => process.stdout.write(JSON.stringify(said) + "\n");
const answer = http.createServer();
if (process.argv[2] === "graphql-ws") {
  const onConnect = (params, socket, context) => say({ params, key: context.request.headers["x-gateway-key-id"] });
  SubscriptionServer.create({ schema, execute, subscribe, rootValue: roots, onConnect }, { server: answer });
} else {
  const onConnect = (context) => {
    say({ params: context.connectionParams, key: context.extra.request.headers["x-gateway-key-id"] });
  };
  useServer({ schema, roots: { query: roots, mutation: roots, subscription: roots }, onConnect }, new WebSocketServer({ server: answer }));
}
answer.listen(0, "127.0.0.1", () => say(answer.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
